-module(exml_query).
%% The API.
-export([attr/3, subelement/2, cdata/1]).

attr({xmlel, _, Attrs, _}, Name, Default) when is_map(Attrs) -> maps:get(Name, Attrs, Default);
attr({xmlel, _, Attrs, _}, Name, Default) -> proplists:get_value(Name, Attrs, Default).

subelement({xmlel, _, _, Children}, Name) ->
    case [Child || {xmlel, Found, _, _} = Child <- Children, Found =:= Name] of
        [First | _] -> First;
        [] -> undefined
    end.

%% The text of the element itself, not of its children.
cdata({xmlel, _, _, Children}) ->
    iolist_to_binary([Text || {xmlcdata, Text} <- Children]).
