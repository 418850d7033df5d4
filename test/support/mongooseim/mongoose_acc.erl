-module(mongoose_acc).
%% The API.
-export([packet/1, stanza_type/1, get/4, host_type/1]).
%% For tests.
-export([new/2, with_stanza/4, from_session/2]).

packet(#{mongoose_acc := true, stanza := #{from := From, to := To, element := Element}}) -> {From, To, Element};
packet(#{mongoose_acc := true}) -> undefined.

stanza_type(#{mongoose_acc := true, stanza := #{type := Type}}) -> Type;
stanza_type(#{mongoose_acc := true}) -> undefined.

get(Namespace, Key, Default, #{mongoose_acc := true} = Acc) -> maps:get({Namespace, Key}, Acc, Default).

host_type(#{mongoose_acc := true, host_type := HostType}) -> HostType.

new(HostType, LServer) ->
    #{mongoose_acc => true, host_type => HostType, lserver => LServer}.

with_stanza(From, To, Element, Acc) ->
    Acc#{stanza => #{from => From, to => To, element => Element,
                     type => exml_query:attr(Element, <<"type">>, undefined)}}.

from_session(Sid, Acc) ->
    Acc#{{c2s, origin_sid} => Sid}.
