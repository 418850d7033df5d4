%%% A message's event as JSON. The processes of the sessions encode it, because they share the work, unlike the queue's
%%% single process.
-module(event_pusher_message).

-export([sender/2, recipient/1, type/1, json/6, is_deep/1, is_too_large/1]).

%% A stanza that makes an event larger than this is left out: the daemon accepts 4 MiB.
-define(EVENT_BYTES, 3145728).
%% A stanza nested deeper than this is left out: readers may parse it recursively.
-define(MAX_DEPTH, 500).

%% The JSON fields of the sender; they are the same for all messages of a session.
-spec sender(Jid :: binary(), Host :: binary()) -> binary().
sender(Jid, Host) ->
    iolist_to_binary([<<",\"host\":">>, event_pusher_json:text(Host), <<",\"from\":">>, event_pusher_json:text(Jid)]).

-spec recipient(Jid :: binary()) -> binary().
recipient(Jid) ->
    iolist_to_binary([<<",\"to\":">>, event_pusher_json:text(Jid)]).

%% `Sender` and `Recipient`: the JSON fields made by the functions above.
-spec json(chat | groupchat, Sender :: binary(), Recipient :: binary(), Id :: binary() | none, Body :: binary(),
           Stanza :: binary() | none) -> binary().
json(Type, Sender, Recipient, Id, Body, Stanza) ->
    Known = {integer_to_binary(os:system_time(millisecond)), Sender, type(Type), Recipient, id(Id),
             event_pusher_json:escape(Body)},
    with_stanza(Known, Stanza).

with_stanza(Known, none) ->
    json(Known, <<>>, <<>>);
with_stanza(Known, Stanza) ->
    Json = json(Known, <<"\",\"stanza\":\"">>, event_pusher_json:escape(Stanza)),
    case is_too_large(Json) of
        false -> Json;
        true -> json(Known, <<>>, <<>>)
    end.

json({At, Sender, Type, Recipient, Id, Body}, Open, Stanza) ->
    <<"{\"kind\":\"message\",\"at\":", At/binary, Sender/binary, Type/binary, Recipient/binary, Id/binary,
      ",\"body\":\"", Body/binary, Open/binary, Stanza/binary, "\"}">>.

%% The JSON field of the type.
-spec type(chat | groupchat) -> binary().
type(chat) -> <<",\"type\":\"chat\"">>;
type(groupchat) -> <<",\"type\":\"groupchat\"">>.

id(none) -> <<>>;
id(Id) -> <<",\"stanza_id\":\"", (event_pusher_json:escape(Id))/binary, $">>.

%% Whether an element {_, Name, Attributes, Children} is nested too deep to be sent.
-spec is_deep(tuple()) -> boolean().
is_deep(Element) ->
    is_deeper(Element, ?MAX_DEPTH).

is_deeper({_, _, _, _}, 0) -> true;
is_deeper({_, _, _, Children}, Left) -> lists:any(fun(Child) -> is_deeper(Child, Left - 1) end, Children);
is_deeper(_Text, _) -> false.

%% Whether an event is sent without its stanza.
-spec is_too_large(Json :: binary()) -> boolean().
is_too_large(Json) ->
    byte_size(Json) > ?EVENT_BYTES.
