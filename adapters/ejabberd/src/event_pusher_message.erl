%%% A message's event as JSON. It is made by the processes of sessions, where many share the work, and not in the one
%%% process of the queue.
-module(event_pusher_message).

-export([sender/2, recipient/1, json/6, is_deep/1]).

%% A stanza that makes an event larger than this is left out of it: the daemon takes 4 MiB.
-define(EVENT_BYTES, 3145728).
%% And one that is nested deeper than this: whoever reads it may do so recursively.
-define(MAX_DEPTH, 500).

%% The fields of the sender's address; they are the same in all that a session sends.
-spec sender(Jid :: binary(), Host :: binary()) -> binary().
sender(Jid, Host) ->
    iolist_to_binary([<<",\"host\":">>, event_pusher_json:text(Host), <<",\"from\":">>, event_pusher_json:text(Jid)]).

-spec recipient(Jid :: binary()) -> binary().
recipient(Jid) ->
    iolist_to_binary([<<",\"to\":">>, event_pusher_json:text(Jid)]).

%% `Sender` and `Recipient` are the fields that the functions above make.
-spec json(chat | groupchat, Sender :: binary(), Recipient :: binary(), Id :: binary() | none, Body :: binary(),
           Stanza :: binary() | none) -> binary().
json(Type, Sender, Recipient, Id, Body, Stanza) ->
    Known = {integer_to_binary(os:system_time(millisecond)), Sender, type(Type), Recipient, id(Id),
             event_pusher_json:escape(Body)},
    with_stanza(Known, Stanza).

with_stanza(Known, none) ->
    json(Known, <<>>, <<>>);
with_stanza(Known, Stanza) ->
    case json(Known, <<"\",\"stanza\":\"">>, event_pusher_json:escape(Stanza)) of
        Json when byte_size(Json) =< ?EVENT_BYTES -> Json;
        _ -> json(Known, <<>>, <<>>)
    end.

json({At, Sender, Type, Recipient, Id, Body}, Open, Stanza) ->
    <<"{\"kind\":\"message\",\"at\":", At/binary, Sender/binary, Type/binary, Recipient/binary, Id/binary,
      ",\"body\":\"", Body/binary, Open/binary, Stanza/binary, "\"}">>.

type(chat) -> <<",\"type\":\"chat\"">>;
type(groupchat) -> <<",\"type\":\"groupchat\"">>.

id(none) -> <<>>;
id(Id) -> <<",\"stanza_id\":\"", (event_pusher_json:escape(Id))/binary, $">>.

%% Whether an element {_, Name, Attributes, Children} is too deep to be sent.
-spec is_deep(tuple()) -> boolean().
is_deep(Element) ->
    is_deeper(Element, ?MAX_DEPTH).

is_deeper({_, _, _, _}, 0) -> true;
is_deeper({_, _, _, Children}, Left) -> lists:any(fun(Child) -> is_deeper(Child, Left - 1) end, Children);
is_deeper(_Text, _) -> false.
