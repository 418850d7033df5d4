%%% The available sessions of each user: questions and answers, as pure functions of the state.
%%%
%%% A session is {Ref, Resource}. Ref has its node, the node's run, and its key. A key has a lineage: the session's
%%% original identity, and how often it was resumed on another node. The nodes' questions arrive in no common order, so
%%% the lineage, not the order of arrival, decides where a session is. Asking any question twice is harmless, except
%%% `expire`, whose second answer is `gone`.
-module(event_pusher_rows).

-export([new_key/0, next_key/1]).
-export([answer/2, user/1, put/3, without/2, of_node/2, ends/1, with_sessions/3, difference/2]).
-export_type([key/0, ref/0, user/0, row/0, rows/0, claims/0, moved/0, question/0, answer/0]).

-type key() :: {node(), reference(), {Origin :: reference(), Moves :: non_neg_integer()}}.
-type ref() :: {node(), Run :: binary(), key()}.
-type user() :: {User :: binary(), Host :: binary()}.
-type row() :: [{ref(), Resource :: binary()}].
-type rows() :: #{user() => row()}.
%% Sessions of dead nodes whose end another node has reported, and when.
-type claims() :: #{ref() => Ms :: integer()}.
%% How often sessions were resumed on another node, and when that was reported.
-type moved() :: #{Origin :: reference() => {Moves :: pos_integer(), Ms :: integer()}}.
-type question() :: {up, ref(), user(), Resource :: binary()}
                  | {down, ref(), user()}
                  %% As down, but `gone` if the session is no longer there: another node took it over or reported its
                  %% end.
                  | {expire, ref(), user()}
                  %% Resumed here from another node, which reports its beginning.
                  | {take, ref(), user(), Resource :: binary()}
                  %% From the ledger: `gone` if another node has reported its end.
                  | {revive, ref(), user(), Resource :: binary()}.
%% How many sessions the user has afterwards.
-type answer() :: {ok, non_neg_integer()} | {gone, non_neg_integer()} | taken.

%% The key of a session that begins here.
-spec new_key() -> key().
new_key() ->
    Origin = make_ref(),
    {node(), Origin, {Origin, 0}}.

%% The key of a session that was resumed here from another node.
-spec next_key(key()) -> key().
next_key({_, _, {Origin, Moves}}) ->
    {node(), make_ref(), {Origin, Moves + 1}}.

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

%% This question may arrive after that of the session's present node.
answer_for({up, Ref, _, Resource}, Row, Claims, Moved) ->
    case has_moved_on(Ref, Moved) of
        true -> {{ok, max(1, length(Row))}, Row, Claims, Moved};
        false ->
            {Answer, Row1} = entered(Ref, Resource, Row),
            {Answer, Row1, maps:remove(Ref, Claims), Moved}
    end;
answer_for({down, Ref, _}, Row, Claims, Moved) ->
    {Answer, Row1} = left(Ref, Row),
    {Answer, Row1, Claims, Moved};
answer_for({expire, Ref, _}, Row, Claims, Moved) ->
    {Answer, Row1} = case lists:keymember(Ref, 1, Row) of
                         true -> left(Ref, Row);
                         false -> {{gone, length(Row)}, Row}
                     end,
    {Answer, Row1, Claims, Moved};
answer_for({take, Ref, _, Resource}, Row, Claims, Moved) ->
    {Origin, Moves} = lineage(Ref),
    case has_moved_on(Ref, Moved) of
        true -> {taken, Row, Claims, Moved};
        false ->
            Others = [One || {Other, _} = One <- Row, element(1, lineage(Other)) =/= Origin],
            {_, Row1} = entered(Ref, Resource, Others),
            {taken, Row1, Claims, Moved#{Origin => {Moves, os:system_time(millisecond)}}}
    end;
answer_for({revive, Ref, _, Resource}, Row, Claims, Moved) ->
    case maps:take(Ref, Claims) of
        {_, Rest} -> {{gone, length(Row)}, Row, Rest, Moved};
        error ->
            {Answer, Row1} = entered(Ref, Resource, Row),
            {Answer, Row1, Claims, Moved}
    end.

lineage({_, _, {_, _, Lineage}}) -> Lineage.

has_moved_on(Ref, Moved) ->
    {Origin, Moves} = lineage(Ref),
    {Latest, _} = maps:get(Origin, Moved, {0, 0}),
    Latest > Moves.

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

%% The users with sessions on a node, with those sessions and all their sessions.
-spec of_node(node(), rows()) -> [{user(), row(), row()}].
of_node(Node, Rows) ->
    [One || {_, [_ | _], _} = One <- [{User, [S || {{N, _, _}, _} = S <- Row, N =:= Node], Row}
                                      || {User, Row} <- maps:to_list(Rows)]].

%% Ends these sessions one by one: the last one's count is the number of remaining sessions.
-spec ends({user(), row(), row()}) -> [{{binary(), binary(), binary()}, non_neg_integer()}].
ends({{Name, Host}, Gone, Row}) ->
    Left = length(Row) - length(Gone),
    Counts = lists:seq(Left + length(Gone) - 1, Left, -1),
    [{{Name, Host, Resource}, Count} || {{_, Resource}, Count} <- lists:zip(Gone, Counts)].

%% Replaces the sessions of a node by its own list; keeps them if the node does not know (`unknown`).
-spec with_sessions(node(), [{ref(), user(), Resource :: binary()}] | unknown, rows()) -> rows().
with_sessions(_, unknown, Rows) ->
    Rows;
with_sessions(Node, Sessions, Rows) ->
    Others = without([{User, Ref} || {User, Gone, _} <- of_node(Node, Rows), {Ref, _} <- Gone], Rows),
    lists:foldl(fun({Ref, User, Resource}, Acc) ->
                        {_, Row} = entered(Ref, Resource, maps:get(User, Acc, [])),
                        Acc#{User => Row}
                end, Others, Sessions).

%% The rows that differ, as in the second.
-spec difference(rows(), rows()) -> [{user(), row()}].
difference(Before, After) ->
    [{User, maps:get(User, After, [])} || User <- maps:keys(maps:merge(Before, After)),
                                          maps:get(User, Before, []) =/= maps:get(User, After, [])].
