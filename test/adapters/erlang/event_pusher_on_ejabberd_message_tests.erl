%%% The short way for plain messages gives what ejabberd's own encoder gives.
-module(event_pusher_on_ejabberd_message_tests).
-include_lib("eunit/include/eunit.hrl").

-define(CHATSTATE, {xmlel, <<"active">>, [{<<"xmlns">>, <<"http://jabber.org/protocol/chatstates">>}], []}).

messages_test_() ->
    {setup, fun() -> {ok, _} = application:ensure_all_started(xmpp) end,
     fun(_) -> [{Name, fun() -> same_both_ways(From, El) end} || {Name, From, El} <- cases()] end}.

cases() ->
    Characters = lists:seq(1, 16#2FF) ++ [16#2028, 16#FFFD, 16#FFFE, 16#FFFF, 16#1F600],
    [{"a text", plain_jid(), message([], [body(<<"Hello">>)])},
     {"no id", plain_jid(), message([{<<"type">>, <<"chat">>}], [body(<<"Hello">>)])},
     {"an empty text", plain_jid(), message([], [body(<<>>)])},
     {"each character", plain_jid(), message([], [body(unicode:characters_to_binary(Characters))])},
     {"bytes that are no UTF-8", plain_jid(), message([], [body(<<"a", 255, 254, "b", 192, 128>>)])},
     {"an id with quotes", plain_jid(),
      message([{<<"id">>, <<"<'\"&\\\n>">>}, {<<"type">>, <<"chat">>}], [body(<<"Hello">>)])},
     {"a room", plain_jid(), message([{<<"id">>, <<"1">>}, {<<"type">>, <<"groupchat">>}], [body(<<"Hello">>)])},
     {"quotes in addresses", jid:make(<<"alice">>, <<"localhost">>, <<"\"<'&\\">>),
      message([{<<"to">>, <<"bob@localhost/\"&'<>">>}, {<<"type">>, <<"chat">>}], [body(<<"Hello">>)])},
     {"another element before", plain_jid(), message([], [?CHATSTATE, body(<<"Hello">>)])},
     {"others around", plain_jid(),
      message([], [?CHATSTATE, body(<<"It's">>),
                   {xmlel, <<"x">>, [{<<"a">>, <<"\"'">>}], [{xmlcdata, <<"\\ & \n">>}]}])},
     {"a body of another namespace", plain_jid(),
      message([], [{xmlel, <<"body">>, [{<<"xmlns">>, <<"urn:foo">>}], [{xmlcdata, <<"foreign">>}]},
                   body(<<"Hello">>)])},
     {"markup inside", plain_jid(),
      message([], [{xmlel, <<"body">>, [],
                    [{xmlcdata, <<"See ">>}, {xmlel, <<"a">>, [], []}, {xmlcdata, <<" now">>}]}])},
     {"two languages", plain_jid(),
      message([], [body(<<"Hello">>), {xmlel, <<"body">>, [{<<"xml:lang">>, <<"de">>}], [{xmlcdata, <<"Hallo">>}]}])},
     {"one with a language", plain_jid(),
      message([], [{xmlel, <<"body">>, [{<<"xml:lang">>, <<"de">>}], [{xmlcdata, <<"Hallo">>}]}])},
     {"a stanza with a language", plain_jid(),
      message([{<<"xml:lang">>, <<"de">>}, {<<"type">>, <<"chat">>}], [body(<<"Hallo">>)])},
     {"a stanza with the default language", plain_jid(),
      message([{<<"xml:lang">>, <<"en">>}, {<<"type">>, <<"chat">>}], [body(<<"Hallo">>)])},
     {"a subject and a thread", plain_jid(),
      message([], [body(<<"Hello">>), {xmlel, <<"subject">>, [], [{xmlcdata, <<"Greeting">>}]},
                   {xmlel, <<"thread">>, [], [{xmlcdata, <<"t1">>}]}])},
     {"no body", plain_jid(), message([], [?CHATSTATE])},
     {"an element 499 deep", plain_jid(), message([], [nested(499), body(<<"Hello">>)])},
     {"an element 500 deep", plain_jid(), message([], [nested(500), body(<<"Hello">>)])},
     {"an element 501 deep", plain_jid(), message([], [nested(501), body(<<"Hello">>)])},
     {"a text just below the limit", plain_jid(), message([], [body(binary:copy(<<"a">>, 1572000))])},
     {"a text whose stanza is too large", plain_jid(), message([], [body(binary:copy(<<"a">>, 1573000))])}].

plain_jid() ->
    jid:make(<<"alice">>, <<"localhost">>, <<"phone">>).

message([], Children) ->
    message([{<<"to">>, <<"bob@localhost">>}, {<<"id">>, <<"m1">>}, {<<"type">>, <<"chat">>}], Children);
message(Attributes, Children) ->
    With = case lists:keymember(<<"to">>, 1, Attributes) of
               true -> Attributes;
               false -> [{<<"to">>, <<"bob@localhost">>} | Attributes]
           end,
    {xmlel, <<"message">>, With ++ [{<<"xmlns">>, <<"jabber:client">>}], Children}.

body(Text) ->
    {xmlel, <<"body">>, [], [{xmlcdata, Text}]}.

nested(1) -> {xmlel, <<"x">>, [], []};
nested(Depth) -> {xmlel, <<"x">>, [], [nested(Depth - 1)]}.

same_both_ways(From, El) ->
    Decoded = xmpp:decode(El, <<"jabber:client">>, [ignore_els]),
    Packet = xmpp:set_from_to(Decoded, From, xmpp:get_to(Decoded)),
    Type = xmpp:get_type(Packet),
    [?assertEqual(made(event_pusher_on_ejabberd_message:general(Type, Packet, From, Sender)),
                  made(event_pusher_on_ejabberd_message:event(Type, Packet, From, Sender)))
     || Sender <- [jid:tolower(From), jid:tolower(jid:remove_resource(From))]].

%% Without the time, which differs.
made(none) -> none;
made(Make) -> re:replace(Make(), <<"\"at\":[0-9]+">>, <<>>, [{return, binary}]).
