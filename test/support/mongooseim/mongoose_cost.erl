%%% The cost of the adapter's hook for a session that sends a message, and of its parts, in nanoseconds.
-module(mongoose_cost).
-export([measure/2]).

-define(HOST_TYPE, <<"localhost">>).

measure(Times, Body) ->
    Owner = self(),
    {Pid, Ref} = spawn_monitor(fun() -> Owner ! {self(), parts(Times, Body)} end),
    receive
        {Pid, Result} ->
            demonitor(Ref, [flush]),
            Result;
        {'DOWN', Ref, process, Pid, Reason} -> error(Reason)
    end.

parts(Times, Body) ->
    [From, To] = [jid:from_binary(Jid) || Jid <- [<<"alice@localhost/phone">>, <<"bob@localhost">>]],
    Stanza = {xmlel, <<"message">>, #{<<"to">> => <<"bob@localhost">>, <<"type">> => <<"chat">>, <<"id">> => <<"m1">>},
              [{xmlel, <<"body">>, #{}, [{xmlcdata, Body}]}]},
    Acc = mongoose_acc:with_stanza(From, To, Stanza, mongoose_acc:from_session({1, self()}, mongoose_acc:new(?HOST_TYPE, ?HOST_TYPE))),
    Extra = #{host_type => ?HOST_TYPE},
    Addressed = jlib:replace_from_to(From, To, Stanza),
    Xml = exml:to_binary(Addressed),
    Sender = event_pusher_message:sender(<<"alice@localhost/phone">>, ?HOST_TYPE),
    Recipient = event_pusher_message:recipient(<<"bob@localhost">>),
    Json = event_pusher_message:json(chat, Sender, Recipient, <<"m1">>, Body, Xml),
    [{Name, nanoseconds(Times, Fun)}
     || {Name, Fun} <- [{hook, fun() -> mod_xmpp_event_pusher:user_send_message(Acc, #{}, Extra) end},
                        {xml_of_the_standin, fun() -> exml:to_binary(Addressed) end},
                        {json, fun() -> event_pusher_message:json(chat, Sender, Recipient, <<"m1">>, Body, Xml) end},
                        {inbox, fun() -> event_pusher_mongooseim:message(?HOST_TYPE, fun() -> Json end) end},
                        {nothing, fun() -> ok end}]].

%% The best of forty rounds: the others measure the machine's other work.
nanoseconds(Times, Fun) ->
    lists:min([round(1000 * element(1, timer:tc(fun() -> repeat(Times, Fun) end)) / Times) || _ <- lists:seq(1, 40)]).

repeat(0, _) -> ok;
repeat(Times, Fun) ->
    Fun(),
    repeat(Times - 1, Fun).
