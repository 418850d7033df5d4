%%% Changes waiting to be committed: messages as JSON, and changes of sessions. Assigns positions to events.
%%%
%%% Invariants:
%%%  - A change asks the census at most one question (`questions`); the answers come in the same order.
%%%  - A change of a session is committed to the ledger even if the queue is full; its event's position is used up, as a
%%%    visible hole.
-module(event_pusher_changes).

-export([questions/1, number/3]).
-export_type([item/0, change/0, question/0, count/0, context/0]).

-type ref() :: event_pusher_sessions:ref().
-type usr() :: event_pusher_sessions:usr().
-type at() :: integer().
-type change() :: {up | take, at(), ref(), usr(), event_pusher_sessions:key()}
                | {move, ref(), event_pusher_sessions:key()}
                | {down | expire, at(), ref(), usr()}
                %% From a former run of the server, with the position of its online event.
                | {dead, at(), ref(), usr(), non_neg_integer()}
                | {revive, ref(), usr()}
                %% From a node that died, counted already.
                | {gone, at(), usr(), non_neg_integer()}.
-type item() :: binary() | change() | dropped | {ack, non_neg_integer()}.
-type question() :: {up | take | revive, ref(), {User :: binary(), Host :: binary()}, Resource :: binary()}
                  | {down | expire, ref(), {User :: binary(), Host :: binary()}}.
%% `gone`: another node has ended the session. `taken`: the session was resumed from another node.
-type count() :: {ok, non_neg_integer()} | {gone, non_neg_integer()} | taken | unknown.
%% `acked_before`: the last position that the daemon had acknowledged when this run began.
-type context() :: #{next := event_pusher_segment:position(), acked_before := non_neg_integer(), dropped := non_neg_integer(),
                     inbox := event_pusher_inbox:inbox(), jid_text := fun((usr()) -> binary())}.

%% The questions for the census about these items.
-spec questions([item()]) -> [question()].
questions(Items) ->
    lists:flatmap(fun question/1, Items).

question({up, _, Ref, {U, H, R}, _}) -> [{up, Ref, {U, H}, R}];
question({take, _, Ref, {U, H, R}, _}) -> [{take, Ref, {U, H}, R}];
question({down, _, Ref, {U, H, _}}) -> [{down, Ref, {U, H}}];
question({expire, _, Ref, {U, H, _}}) -> [{expire, Ref, {U, H}}];
question({dead, _, Ref, {U, H, _}, _}) -> [{expire, Ref, {U, H}}];
question({revive, Ref, {U, H, R}}) -> [{revive, Ref, {U, H}, R}];
question(_) -> [].

%% The operations that commit these items. `Counts`: the census's answers, or `unknown` for all.
-spec number([item()], [count()] | unknown, context()) -> {[event_pusher_segment:op()], context()}.
number(Items, Counts, Context) ->
    number(Items, Counts, [], Context).

number([], _, Ops, Context) ->
    {lists:reverse(Ops), Context};
number([Json | Items], Counts, Ops, #{next := Next} = Context) when is_binary(Json) ->
    number(Items, Counts, [{event, Next, Json} | Ops], Context#{next := Next + 1});
number([Item | Items], Counts, Ops, Context) ->
    {Count, Rest} = case {question(Item), Counts} of
                        {[_], [First | Others]} -> {First, Others};
                        {[_], unknown} -> {unknown, unknown};
                        {[], _} -> {none, Counts}
                    end,
    case op(Item, Count, Context) of
        {none, Context1} -> number(Items, Rest, Ops, Context1);
        {Op, Context1} -> number(Items, Rest, [Op | Ops], Context1)
    end.

op({up, At, Ref, USR, Key}, Count, C) ->
    {Position, Json, C1} = presence(At, USR, true, Count, C),
    {{up, Ref, USR, Key, Position, Json}, C1};
op({take, _, Ref, USR, Key}, taken, C) ->
    {{up, Ref, USR, Key, 0, none}, C};
op({take, At, Ref, USR, Key}, Count, C) ->
    op({up, At, Ref, USR, Key}, Count, C);
op({move, Ref, Key}, _, C) ->
    {{move, Ref, Key}, C};
op({down, At, Ref, USR}, Count, C) ->
    {Position, Json, C1} = presence(At, USR, false, Count, C),
    {{down, Ref, Position, Json}, C1};
%% Another node has taken over the session and reports its end.
op({expire, _, Ref, _}, {gone, _}, C) ->
    {{down, Ref, 0, none}, C};
op({expire, At, Ref, USR}, Count, C) ->
    op({down, At, Ref, USR}, Count, C);
%% Another node reported the session's end when this one died. But if the daemon did not have our online event then, it
%% needs an offline event after it, even if it has the online event by now.
op({dead, _, Ref, _, Position}, {gone, _}, #{acked_before := Acked} = C) when Position =< Acked ->
    {{down, Ref, 0, none}, C};
op({dead, At, Ref, USR, _}, {gone, Left}, C) ->
    op({down, At, Ref, USR}, {ok, Left}, C);
op({dead, At, Ref, USR, _}, Count, C) ->
    op({down, At, Ref, USR}, Count, C);
op({gone, At, USR, Count}, _, C) ->
    case presence(At, USR, false, {ok, Count}, C) of
        {0, none, C1} -> {none, C1};
        {Position, Json, C1} -> {{event, Position, Json}, C1}
    end;
%% Events that the hooks had to drop use up positions.
op(dropped, _, #{inbox := Inbox, next := Next, dropped := Dropped} = C) ->
    N = event_pusher_inbox:take_dropped(Inbox),
    {none, C#{next := Next + N, dropped := Dropped + N}};
op({revive, _, _}, _, C) ->
    {none, C};
op({ack, Position}, _, C) ->
    {{ack, Position}, C}.

presence(At, USR, Present, Count, #{next := Next, dropped := Dropped, inbox := Inbox} = C) ->
    case event_pusher_inbox:admit(Inbox) of
        true -> {Next, presence_json(At, USR, Present, Count, C), C#{next := Next + 1}};
        false -> {0, none, C#{next := Next + 1, dropped := Dropped + 1}}
    end.

presence_json(At, {_, Host, _} = USR, Present, Count, #{jid_text := JidText}) ->
    Sessions = case Count of
                   {ok, N} -> [<<",\"sessions\":">>, integer_to_binary(N)];
                   unknown -> []
               end,
    iolist_to_binary([<<"{\"kind\":\"presence\",\"at\":">>, integer_to_binary(At), <<",\"host\":">>,
                      event_pusher_json:text(Host), <<",\"jid\":">>, event_pusher_json:text(JidText(USR)),
                      <<",\"present\":">>, atom_to_binary(Present, utf8), Sessions, $}]).
