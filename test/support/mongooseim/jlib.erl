-module(jlib).
%% The API.
-export([replace_from_to/3]).

replace_from_to(From, To, {xmlel, Name, Attrs, Children}) ->
    {xmlel, Name, set(<<"to">>, jid:to_binary(To), set(<<"from">>, jid:to_binary(From), Attrs)), Children}.

%% A map from 6.4 on; a list before.
set(Key, Value, Attrs) when is_map(Attrs) -> Attrs#{Key => Value};
set(Key, Value, Attrs) -> lists:keystore(Key, 1, Attrs, {Key, Value}).
