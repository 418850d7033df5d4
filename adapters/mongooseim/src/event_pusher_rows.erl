%%% Which available sessions has each user? Questions and their answers, as pure functions of what is known.
%%%
%%% A session is {Ref, Resource}. Its Ref begins with the node that it is on and that node's run, so a session that is
%%% resumed on another node is another one there. Each question may be asked twice without harm, except `expire`, whose
%%% second answer is `gone`.
-module(event_pusher_rows).

-export([answer/2, user/1, put/3, without/2, of_node/2, ends/1, with_sessions/3, difference/2]).
-export_type([ref/0, user/0, row/0, rows/0, claims/0, moved/0, question/0, answer/0]).

-type ref() :: {node(), Run :: binary(), integer()}.
-type user() :: {User :: binary(), Host :: binary()}.
-type row() :: [{ref(), Resource :: binary()}].
-type rows() :: #{user() => row()}.
%% Sessions of dead nodes whose end another node has reported, and when.
-type claims() :: #{ref() => Ms :: integer()}.
%% Sessions that were taken from another node, and when: for a question that is asked twice.
-type moved() :: #{ref() => Ms :: integer()}.
-type question() :: {up, ref(), user(), Resource :: binary()}
                  | {down, ref(), user()}
                  %% As down, but `gone` where it is no longer there: another node took it, or reported its end.
                  | {expire, ref(), user()}
                  %% Resumed here; on another node it was another session with this resource.
                  | {take, ref(), user(), Resource :: binary()}
                  %% Of the ledger: `gone` where another node has reported its end.
                  | {revive, ref(), user(), Resource :: binary()}.
%% How many sessions the user has then.
-type answer() :: {ok, non_neg_integer()} | {gone, non_neg_integer()} | taken.

-spec answer([question()], {rows(), claims(), moved()}) -> {[answer()], {rows(), claims(), moved()}}.
answer(Questions, Known) ->
    lists:mapfoldl(fun answer_one/2, Known, Questions).

-spec user(question()) -> user().
user(Question) ->
    element(3, Question).

answer_one(Question, {Rows, Claims, Moved}) ->
    User = user(Question),
    {Answer, Row, Claims1, Moved1} = answer_for(Question, maps:get(User, Rows, []), Claims, Moved),
    {Answer, {put(User, Row, Rows), Claims1, Moved1}}.

answer_for({up, Ref, _, Resource}, Row, Claims, Moved) ->
    {Answer, Row1} = entered(Ref, Resource, Row),
    {Answer, Row1, maps:remove(Ref, Claims), Moved};
answer_for({down, Ref, _}, Row, Claims, Moved) ->
    {Answer, Row1} = left(Ref, Row),
    {Answer, Row1, Claims, Moved};
answer_for({expire, Ref, _}, Row, Claims, Moved) ->
    {Answer, Row1} = case lists:keymember(Ref, 1, Row) of
                         true -> left(Ref, Row);
                         false -> {{gone, length(Row)}, Row}
                     end,
    {Answer, Row1, Claims, Moved};
answer_for({take, {Node, _, _} = Ref, _, Resource}, Row, Claims, Moved) ->
    case [Former || {{N, _, _} = Former, R} <- Row, N =/= Node, R =:= Resource] of
        [Former | _] ->
            {taken, lists:keyreplace(Former, 1, Row, {Ref, Resource}), Claims, Moved#{Ref => now_ms()}};
        [] ->
            {Answer, Row1} = entered(Ref, Resource, Row),
            {case Moved of
                 #{Ref := _} -> taken;
                 _ -> Answer
             end, Row1, Claims, Moved}
    end;
answer_for({revive, Ref, _, Resource}, Row, Claims, Moved) ->
    case maps:take(Ref, Claims) of
        {_, Rest} -> {{gone, length(Row)}, Row, Rest, Moved};
        error ->
            {Answer, Row1} = entered(Ref, Resource, Row),
            {Answer, Row1, Claims, Moved}
    end.

entered(Ref, Resource, Row) ->
    Row1 = lists:keystore(Ref, 1, Row, {Ref, Resource}),
    {{ok, length(Row1)}, Row1}.

left(Ref, Row) ->
    Row1 = lists:keydelete(Ref, 1, Row),
    {{ok, length(Row1)}, Row1}.

-spec put(user(), row(), rows()) -> rows().
put(User, [], Rows) -> maps:remove(User, Rows);
put(User, Row, Rows) -> Rows#{User => Row}.

-spec without([{user(), ref()}], rows()) -> rows().
without(Sessions, Rows) ->
    lists:foldl(fun({User, Ref}, Acc) -> put(User, lists:keydelete(Ref, 1, maps:get(User, Acc, [])), Acc) end,
                Rows, Sessions).

%% The users that have sessions on a node: those sessions, and all of theirs.
-spec of_node(node(), rows()) -> [{user(), row(), row()}].
of_node(Node, Rows) ->
    [One || {_, [_ | _], _} = One <- [{User, [S || {{N, _, _}, _} = S <- Row, N =:= Node], Row}
                                      || {User, Row} <- maps:to_list(Rows)]].

%% The ends of these sessions, one after the other: the last one's count is that of the sessions left.
-spec ends({user(), row(), row()}) -> [{{binary(), binary(), binary()}, non_neg_integer()}].
ends({{Name, Host}, Gone, Row}) ->
    Left = length(Row) - length(Gone),
    Counts = lists:seq(Left + length(Gone) - 1, Left, -1),
    [{{Name, Host, Resource}, Count} || {{_, Resource}, Count} <- lists:zip(Gone, Counts)].

%% With these as the sessions of a node, which knows them best; `unknown` when it doesn't.
-spec with_sessions(node(), [{ref(), user(), Resource :: binary()}] | unknown, rows()) -> rows().
with_sessions(_, unknown, Rows) ->
    Rows;
with_sessions(Node, Sessions, Rows) ->
    Others = without([{User, Ref} || {User, Gone, _} <- of_node(Node, Rows), {Ref, _} <- Gone], Rows),
    lists:foldl(fun({Ref, User, Resource}, Acc) ->
                        {_, Row} = entered(Ref, Resource, maps:get(User, Acc, [])),
                        Acc#{User => Row}
                end, Others, Sessions).

%% The rows that are not the same in both, as the second has them.
-spec difference(rows(), rows()) -> [{user(), row()}].
difference(Before, After) ->
    [{User, maps:get(User, After, [])} || User <- maps:keys(maps:merge(Before, After)),
                                          maps:get(User, Before, []) =/= maps:get(User, After, [])].

now_ms() ->
    os:system_time(millisecond).
