%%% Live sessions: runs what MongooseIM runs when a session begins, is resumed, is replaced or ends, in the recorded
%%% order.
-module(mongoose_live).
-export([open/2, available/1, unavailable/1, send/4, send_by_api/4, resume/1, resume_from/2, stop/2, end_all/1, pids/0]).
-export([hand_over/1, send_deep/3, open_at_once/1]).

%% Opens a session of a full JID; an existing one is replaced, and ends a moment later.
open(Jid, Options) ->
    Replaced = [Pid || {session, {_, Pid}, USR, _, _, _} <- ejabberd_sm:get_full_session_list(),
                       USR =:= jid:to_lower(jid:from_binary(Jid))],
    Pid = session(jid:from_binary(Jid), #{}, Options),
    [spawn(fun() -> stop(Former, {shutdown, {replaced, Pid}}) end) || Former <- Replaced],
    Pid.

session(Jid, States, Options) ->
    {ok, HostType} = mongoose_domain_api:get_domain_host_type(jid:lserver(Jid)),
    Pid = mongoose_c2s:start(HostType, States, at_once),
    Info = #{auth_module => standin, ip => {{127, 0, 0, 1}, 5222}, conn => maps:get(conn, Options, c2s)},
    mongoose_c2s:run(Pid, fun(Data) -> {ok, opened(mongoose_c2s:set_jid(Data, Jid), Info)} end),
    Pid.

opened(Data, Info) ->
    Jid = mongoose_c2s:get_jid(Data),
    ejabberd_sm:open(mongoose_c2s:get_sid(Data), jid:to_lower(Jid), Info),
    gen_hook:run_fold(sm_register_connection, mongoose_c2s:get_host_type(Data), ok,
                      #{sid => mongoose_c2s:get_sid(Data), jid => Jid, info => Info}),
    Data.

%% Tests use the text of a process id.
pid(Text) when is_list(Text) -> list_to_pid(Text);
pid(Pid) -> Pid.

available(Text) ->
    mongoose_c2s:run(pid(Text), fun(Data) ->
        case mod_presence:get_old_priority(mod_presence:maybe_get_handler(Data)) of
            undefined ->
                Data1 = hook(user_available, mod_presence:set_priority(Data, 0), #{jid => mongoose_c2s:get_jid(Data)}),
                {ok, Data1};
            _ -> {ok, Data}
        end
    end).

unavailable(Text) ->
    mongoose_c2s:run(pid(Text), fun(Data) -> {ok, unset_presence(Data, <<>>)} end).

unset_presence(Data, Status) ->
    hook(unset_presence, mod_presence:set_priority(Data, undefined),
         #{jid => mongoose_c2s:get_jid(Data), status => Status}).

hook(Name, Data, Params) ->
    mongoose_c2s:hook(Name, Data, acc(Data), Params, 1000).

acc(Data) ->
    mongoose_acc:from_session(mongoose_c2s:get_sid(Data),
                              mongoose_acc:new(mongoose_c2s:get_host_type(Data), jid:lserver(mongoose_c2s:get_jid(Data)))).

send(Text, To, Type, Body) ->
    mongoose_c2s:run(pid(Text), fun(Data) ->
        Acc = mongoose_acc:with_stanza(mongoose_c2s:get_jid(Data), jid:from_binary(To), message(To, Type, Body), acc(Data)),
        {ok, mongoose_c2s:hook(user_send_message, Data, Acc, #{c2s_data => Data}, 1000)}
    end).

%% A message with deeply nested elements.
send_deep(Text, To, Depth) ->
    {xmlel, Name, Attrs, Children} = message(To, <<"chat">>, <<"deep">>),
    Deep = lists:foldl(fun(_, Inner) -> {xmlel, <<"x">>, #{}, [Inner]} end, {xmlcdata, <<"y">>}, lists:seq(1, Depth)),
    mongoose_c2s:run(pid(Text), fun(Data) ->
        Acc = mongoose_acc:with_stanza(mongoose_c2s:get_jid(Data), jid:from_binary(To),
                                       {xmlel, Name, Attrs, Children ++ [Deep]}, acc(Data)),
        {ok, mongoose_c2s:hook(user_send_message, Data, Acc, #{c2s_data => Data}, 1000)}
    end).

%% A client that sends its presence together with the opening of the session: both are handled at once.
open_at_once(Text) ->
    Jid = jid:from_binary(Text),
    {ok, HostType} = mongoose_domain_api:get_domain_host_type(jid:lserver(Jid)),
    Pid = mongoose_c2s:start(HostType, #{}, at_once),
    mongoose_c2s:run(Pid, fun(Data) ->
        Opened = opened(mongoose_c2s:set_jid(Data, Jid), #{conn => c2s}),
        {ok, hook(user_available, mod_presence:set_priority(Opened, 0), #{jid => Jid})}
    end).

%% A message of the server's API: no session sent it.
send_by_api(From, To, Type, Body) ->
    Sender = jid:from_binary(From),
    {ok, HostType} = mongoose_domain_api:get_domain_host_type(jid:lserver(Sender)),
    Acc = mongoose_acc:new(HostType, jid:lserver(Sender)),
    gen_hook:run_fold(user_send_message, HostType,
                      mongoose_acc:with_stanza(Sender, jid:from_binary(To), message(To, Type, Body), Acc), #{}),
    ok.

message(To, Type, {copies, Text, Count}) ->
    message(To, Type, binary:copy(Text, Count));
message(To, Type, Body) ->
    {xmlel, <<"message">>, #{<<"to">> => To, <<"type">> => Type},
     [{xmlel, <<"body">>, #{}, [{xmlcdata, Body}]}]}.

%% A new process takes over the session, with the states of all modules; the former process ends.
resume(Text) ->
    Pid = pid(Text),
    {Jid, States} = hand_over(Pid),
    New = session(Jid, States, #{}),
    spawn(fun() -> stop(Pid, {shutdown, resumed}) end),
    New.

%% The same, from another node.
resume_from(Node, Text) ->
    {Jid, States} = rpc:call(Node, ?MODULE, hand_over, [Text]),
    New = session(Jid, States, #{}),
    ok = rpc:call(Node, ?MODULE, stop, [Text, {shutdown, resumed}]),
    New.

hand_over(Text) ->
    Pid = pid(Text),
    {mongoose_c2s:run(Pid, fun(Data) -> {mongoose_c2s:get_jid(Data), Data} end), mongoose_c2s:state_mod(Pid)}.

%% `killed` runs no hook.
stop(Text, Reason) when is_list(Text) ->
    stop(pid(Text), Reason);
stop(Pid, killed) ->
    mongoose_c2s:stop(Pid, killed),
    [ejabberd_sm:close(Sid) || {session, {_, P} = Sid, _, _, _, _} <- ejabberd_sm:get_full_session_list(), P =:= Pid],
    ok;
stop(Pid, Reason) ->
    mongoose_c2s:run(Pid, fun(Data) ->
        Params = #{c2s_data => Data, c2s_state => session_established, event_type => terminate, event_content => Reason,
                   reason => Reason},
        Data1 = hook(user_terminate, Data, Params),
        Data2 = case mod_presence:get_old_priority(mod_presence:maybe_get_handler(Data1)) of
                    undefined -> Data1;
                    _ -> unset_presence(Data1, <<"Shutdown">>)
                end,
        ejabberd_sm:close(mongoose_c2s:get_sid(Data)),
        {ok, Data2}
    end),
    mongoose_c2s:stop(Pid, Reason),
    ok.

end_all(Reason) ->
    [stop(Pid, Reason) || Pid <- pids()],
    ok.

%% A killed session stays in the table.
pids() ->
    [Pid || {session, {_, Pid}, _, _, _, _} <- ejabberd_sm:get_full_session_list(), is_process_alive(Pid)].
