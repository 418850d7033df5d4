%% What the Erlang adapters make of texts in JSON.
-module(event_pusher_json_tests).
-include_lib("eunit/include/eunit.hrl").

-define(WRONG, <<16#FFFD/utf8>>).

%% Wherever a byte stands, whatever stands around it.
every_byte_test() ->
    Around = [<<>>, <<"a">>, <<"aaaaaa">>, <<"~~~~~~~">>, <<"        ">>, <<"!#[]^!#[]^!#">>, <<"ä€😀äaa"/utf8>>],
    [?assertEqual({Byte, <<Before/binary, (escaped(Byte))/binary, After/binary>>},
                  {Byte, event_pusher_json:escape(<<Before/binary, Byte, After/binary>>)})
     || Byte <- lists:seq(0, 255), Before <- Around, After <- Around].

escaped($") -> <<"\\\"">>;
escaped($\\) -> <<"\\\\">>;
escaped($\n) -> <<"\\n">>;
escaped($\r) -> <<"\\r">>;
escaped($\t) -> <<"\\t">>;
escaped(C) when C < 32; C >= 128 -> ?WRONG;
escaped(C) -> <<C>>.

characters_test_() ->
    [?_assertEqual(Text, event_pusher_json:escape(Text))
     || Text <- [<<>>, <<127>>, <<"aaaaaa", 16#80/utf8>>, <<16#7FF/utf8, 16#800/utf8, 16#FFFD/utf8, 16#10FFFF/utf8>>]].

not_characters_test_() ->
    [?_assertEqual(iolist_to_binary([$a, lists:duplicate(byte_size(Bytes), ?WRONG), $z]),
                   event_pusher_json:escape(<<$a, Bytes/binary, $z>>))
     || Bytes <- [<<16#C3>>, <<16#E2, 16#82>>, <<16#ED, 16#A0, 16#80>>, <<16#F4, 16#90, 16#80, 16#80>>, <<16#C0, 16#80>>,
                   <<16#EF, 16#BF, 16#BE>>, <<16#EF, 16#BF, 16#BF>>]].
