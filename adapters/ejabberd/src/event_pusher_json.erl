%%% JSON strings, encoded by hand: no JSON library comes with all supported versions of the XMPP servers and of OTP.
%%%
%%% The result is always valid UTF-8 and valid JSON, with characters that XML allows only: one invalid byte would make
%%% the whole batch unreadable. Each invalid byte becomes U+FFFD.
-module(event_pusher_json).

-export([text/1, escape/1]).

%% A text as a JSON string, with its quotation marks.
-spec text(binary()) -> iodata().
text(Text) ->
    [$", escape(Text), $"].

%% A JSON string without its quotation marks. Most texts need no escaping and are returned unchanged.
-spec escape(binary()) -> binary().
escape(Text) ->
    case plain(Text, 0) of
        Length when Length =:= byte_size(Text) -> Text;
        Length -> iolist_to_binary(escape(Text, Length))
    end.

escape(Text, Length) when Length =:= byte_size(Text) ->
    [Text];
escape(Text, Length) ->
    <<Plain:Length/binary, C, Rest/binary>> = Text,
    [Plain, escaped(C) | escape(Rest, plain(Rest, 0))].

%% How many bytes at the start need no escaping. Most don't, so seven are tested in one step: each term sets the highest
%% bit of a byte that is 128 or more, less than 32, a quotation mark or a backslash. It may set that of others too.
plain(<<W:56, Rest/binary>>, N)
  when (W bor (W - 16#20202020202020) bor ((W bxor 16#22222222222222) - 16#01010101010101)
        bor ((W bxor 16#5C5C5C5C5C5C5C) - 16#01010101010101)) band 16#80808080808080 =:= 0 ->
    plain(Rest, N + 7);
plain(<<C, Rest/binary>>, N) when C >= 32, C < 128, C =/= $", C =/= $\\ -> plain(Rest, N + 1);
plain(<<C/utf8, Rest/binary>>, N) when C >= 16#10000 -> plain(Rest, N + 4);
plain(<<C/utf8, Rest/binary>>, N) when C >= 16#800, C =/= 16#FFFE, C =/= 16#FFFF -> plain(Rest, N + 3);
plain(<<C/utf8, Rest/binary>>, N) when C >= 128, C < 16#800 -> plain(Rest, N + 2);
plain(_, N) -> N.

escaped($") -> <<"\\\"">>;
escaped($\\) -> <<"\\\\">>;
escaped($\n) -> <<"\\n">>;
escaped($\t) -> <<"\\t">>;
escaped($\r) -> <<"\\r">>;
%% Not UTF-8, or a character that XML does not allow.
escaped(_) -> <<16#FFFD/utf8>>.
