%%% A message's event, from ejabberd's record. Runs in the session's process.
%%%
%%% Most messages are a text and perhaps a few other elements, such as a chat state. Their stanza is put together from
%%% the record's fields; the others pass through ejabberd's encoder. Both ways give the same event
%%% (docs/decisions/speed-in-the-adapters.md has what the short way saves). A record of another shape, in a later
%%% release of ejabberd, takes the long way.
-module(event_pusher_on_ejabberd_message).

-export([event/4, general/4]).

%% An address as text, as an XML attribute (escaped for JSON), and as the JSON field of an event.
-type address() :: {Text :: binary(), Attribute :: binary(), Field :: binary()}.
-type make() :: fun(() -> binary()).

%% Returns a function that makes the message's event; `none` if the message has no body. `Sender`: the address to report
%% for `From`, which has no resource if no session sent the message.
-spec event(chat | groupchat, Packet :: tuple(), From :: tuple(), Sender :: event_pusher_sessions:usr()) ->
          make() | none.
event(Type, {message, Id, Type, Lang, _, To, [], [{text, <<>>, Body}], undefined, Els, _} = Packet, From, Sender)
  when Body =/= <<>> ->
    case lists:all(fun is_other/1, Els) andalso not event_pusher_message:is_deep({xmlel, <<"message">>, [], Els}) of
        true -> fun() -> plain(Type, Id, Lang, Body, Els, from(From, Sender), to(To)) end;
        false -> general(Type, Packet, From, Sender)
    end;
event(Type, Packet, From, Sender) ->
    general(Type, Packet, From, Sender).

%% Likewise, for any message.
-spec general(chat | groupchat, Packet :: tuple(), From :: tuple(), Sender :: event_pusher_sessions:usr()) ->
          make() | none.
general(Type, Packet, From, Sender) ->
    {FromText, _, FromField} = from(From, Sender),
    {ToText, _, ToField} = to(xmpp:get_to(Packet)),
    Xml = encode(Packet, FromText, ToText),
    case body(Xml) of
        none -> none;
        Body ->
            fun() ->
                    Stanza = case event_pusher_message:is_deep(Xml) of
                                 true -> none;
                                 false -> fxml:element_to_binary(Xml)
                             end,
                    event_pusher_message:json(Type, FromField, ToField, id(xmpp:get_id(Packet)), Body, Stanza)
            end
    end.

is_other({xmlel, Name, _, _}) -> Name =/= <<"body">>;
is_other(_) -> false.

%% In one binary, because each further one costs as much as all the rest.
plain(Type, Id, Lang, Body, Els, {_, From, FromField}, {_, To, ToField}) ->
    {BodyJson, BodyXml} = text(Body),
    {IdField, IdAttribute} = ids(Id),
    At = integer_to_binary(os:system_time(millisecond)),
    Json = <<"{\"kind\":\"message\",\"at\":", At/binary, FromField/binary, (event_pusher_message:type(Type))/binary,
             ToField/binary, IdField/binary, ",\"body\":\"", BodyJson/binary, "\",\"stanza\":\"<message", From/binary,
             To/binary, (attribute(<<"xml:lang">>, Lang))/binary, (type(Type))/binary, IdAttribute/binary,
             " xmlns='jabber:client'>", (others(Els))/binary, "<body>", BodyXml/binary, "</body></message>\"}">>,
    case event_pusher_message:is_too_large(Json) of
        false -> Json;
        true -> event_pusher_message:json(Type, FromField, ToField, id(Id), Body, none)
    end.

type(chat) -> <<" type='chat'">>;
type(groupchat) -> <<" type='groupchat'">>.

ids(<<>>) ->
    {<<>>, <<>>};
ids(Id) ->
    {<<",\"stanza_id\":\"", (event_pusher_json:escape(Id))/binary, $">>, attribute(<<"id">>, Id)}.

%% A text in JSON, and in XML in JSON.
text(Text) ->
    case is_plain(Text) of
        true -> {Text, Text};
        false -> {event_pusher_json:escape(Text), event_pusher_json:escape(fxml:crypt(Text))}
    end.

%% The following two are XML in JSON.
others([]) -> <<>>;
others(Els) -> << <<(xml(El))/binary>> || El <- Els >>.

attribute(_, <<>>) ->
    <<>>;
attribute(Name, Value) ->
    case is_plain(Value) of
        true -> <<$\s, Name/binary, "='", Value/binary, $'>>;
        false ->
            <<"<x", Attribute/binary>> = xml({xmlel, <<"x">>, [{Name, Value}], []}),
            binary:part(Attribute, 0, byte_size(Attribute) - byte_size(<<"/>">>))
    end.

xml(El) ->
    event_pusher_json:escape(fxml:element_to_binary(El)).

%% Whether neither JSON nor XML escapes anything in a text. Tests seven bytes in one step, as event_pusher_json does: the
%% first two terms are for bytes of 128 or more, control characters and the backslash; the others for one of &, ' and ",
%% which `bor` makes the same, and for one of < and >.
is_plain(<<W:56, Rest/binary>>)
  when (W bor (W - 16#20202020202020) bor ((W bxor 16#5C5C5C5C5C5C5C) - 16#01010101010101)
        bor (((W bor 16#05050505050505) bxor 16#27272727272727) - 16#01010101010101)
        bor (((W bor 16#02020202020202) bxor 16#3E3E3E3E3E3E3E) - 16#01010101010101)) band 16#80808080808080 =:= 0 ->
    is_plain(Rest);
is_plain(<<C, Rest/binary>>)
  when C >= 32, C < 128, C =/= $\\, C =/= $&, C =/= $<, C =/= $>, C =/= $', C =/= $" ->
    is_plain(Rest);
is_plain(Rest) ->
    Rest =:= <<>>.

%% The direct text of the first body in the stream's namespace.
body({xmlel, _, _, Children}) ->
    case [Texts || {xmlel, <<"body">>, Attributes, Texts} <- Children, is_of_stream(Attributes)] of
        [Texts | _] -> iolist_to_binary([Text || {xmlcdata, Text} <- Texts]);
        [] -> none
    end.

is_of_stream(Attributes) ->
    case lists:keyfind(<<"xmlns">>, 1, Attributes) of
        false -> true;
        {_, Namespace} -> Namespace =:= <<"jabber:client">>
    end.

id(<<>>) -> none;
id(Id) -> Id.

%% Encoding the addresses again would take half of the time for a message. ejabberd has set `from` to the session's own
%% address (RFC 6120, 8.1.2.1).
encode(Packet, From, To) ->
    Xml = xmpp:encode(xmpp:set_from_to(Packet, undefined, undefined)),
    fxml:replace_tag_attr(<<"from">>, From, fxml:replace_tag_attr(<<"to">>, To, Xml)).

from(JID, {_, Host, _} = Sender) ->
    address(event_pusher_from, JID, Sender,
            fun(Text) -> {attribute(<<"from">>, Text), event_pusher_message:sender(jid:encode(Sender), Host)} end).

to(JID) ->
    address(event_pusher_to, JID, none,
            fun(Text) -> {attribute(<<"to">>, Text), event_pusher_message:recipient(jid:encode(jid:tolower(JID)))} end).

%% A session's messages share the sender and mostly the recipient, so the session's process caches the last ones.
-spec address(atom(), tuple(), term(), fun((binary()) -> {binary(), binary()})) -> address().
address(Key, JID, Reported, Make) ->
    case get(Key) of
        {JID, Reported, Kept} -> Kept;
        _ ->
            Text = jid:encode(JID),
            {Attribute, Field} = Make(Text),
            New = {Text, Attribute, Field},
            put(Key, {JID, Reported, New}),
            New
    end.
