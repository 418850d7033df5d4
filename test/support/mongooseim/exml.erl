-module(exml).
%% The API.
-export([to_binary/1]).

to_binary(Element) ->
    iolist_to_binary(xml(Element)).

xml({xmlcdata, Text}) -> escape(Text);
xml({xmlel, Name, Attrs, []}) -> [$<, Name, attrs(Attrs), "/>"];
xml({xmlel, Name, Attrs, Children}) ->
    [$<, Name, attrs(Attrs), $>, [xml(Child) || Child <- Children], "</", Name, $>].

attrs(Attrs) when is_map(Attrs) -> attrs(lists:sort(maps:to_list(Attrs)));
attrs(Attrs) -> [[" ", Key, "='", escape(Value), $'] || {Key, Value} <- Attrs].

escape(Text) ->
    case binary:match(Text, [<<"&">>, <<"<">>, <<">">>, <<"'">>]) of
        nomatch -> Text;
        _ -> << <<(escaped(C))/binary>> || <<C>> <= Text >>
    end.

escaped($&) -> <<"&amp;">>;
escaped($<) -> <<"&lt;">>;
escaped($>) -> <<"&gt;">>;
escaped($') -> <<"&apos;">>;
escaped(C) -> <<C>>.
