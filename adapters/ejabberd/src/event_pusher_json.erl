%%% JSON strings, made by hand: no JSON library comes with every version of the XMPP servers and of OTP that this runs on.
%%%
%%% Whatever the bytes are, the result is valid UTF-8 and valid JSON, of characters that XML has: one wrong byte would make a
%%% whole batch unreadable, and the daemon takes no others. Each byte that is wrong becomes U+FFFD.
-module(event_pusher_json).

-export([text/1, escape/1]).

%% A text as a JSON string, with its quotation marks.
-spec text(binary()) -> iodata().
text(Text) ->
    [$", escape(Text), $"].

%% What stands between the quotation marks. Most texts need no escaping, and are returned as they are.
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

%% How many bytes at the start stand for themselves.
plain(<<C, Rest/binary>>, N) when C >= 32, C < 128, C =/= $", C =/= $\\ -> plain(Rest, N + 1);
plain(<<C/utf8, Rest/binary>>, N) when C >= 16#10000 -> plain(Rest, N + 4);
plain(<<C/utf8, Rest/binary>>, N) when C >= 16#800, C =/= 16#FFFE, C =/= 16#FFFF -> plain(Rest, N + 3);
plain(<<C/utf8, Rest/binary>>, N) when C >= 128 -> plain(Rest, N + 2);
plain(_, N) -> N.

escaped($") -> <<"\\\"">>;
escaped($\\) -> <<"\\\\">>;
escaped($\n) -> <<"\\n">>;
escaped($\t) -> <<"\\t">>;
escaped($\r) -> <<"\\r">>;
%% Not UTF-8, or a character that XML does not have.
escaped(_) -> <<16#FFFD/utf8>>.
