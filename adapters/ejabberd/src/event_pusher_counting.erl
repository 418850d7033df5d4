%%% Lets the census count the sessions of one group of changes after another, with a time limit.
%%%
%%% Invariants:
%%%  - Only one group is with the census at a time (state waiting); the next one gathers meanwhile.
%%%  - Each group given to `ask` comes back once: with its counts, or without if they are late. Events without a count
%%%    are all published. While the census is late, no group waits for it.
-module(event_pusher_counting).

-export([start/3, ask/2, handle/2, give_up/1, is_waiting/1]).
-export_type([counting/0]).

-record(counting, {server :: module(),
                   host :: binary(),
                   run :: binary(),
                   census :: pid() | none,
                   waiting = none :: none | {pos_integer(), [event_pusher_changes:item()]},
                   asked = 0 :: non_neg_integer(),
                   late = false :: boolean(),
                   %% Whether the census has answered since the start.
                   answered = false :: boolean()}).

-opaque counting() :: #counting{}.
-type counts() :: [event_pusher_changes:count()] | unknown.

%% The first answer may take longer, since the cluster's tables are loaded first.
-define(FIRST_COUNT_MS, 10000).
-define(COUNT_MS, 1000).
-define(RESTART_MS, 1000).

%% Starts the census through the callback of event_pusher_host.
-spec start(module(), binary(), binary()) -> counting().
start(Server, Host, Run) ->
    #counting{server = Server, host = Host, run = Run, census = Server:start_census(self(), Host, Run)}.

-spec is_waiting(counting()) -> boolean().
is_waiting(#counting{waiting = Waiting}) -> Waiting =/= none.

%% Returns the group's counts, or keeps the group until the census answers.
-spec ask([event_pusher_changes:item()], counting()) -> {counted, counts(), counting()} | {waiting, counting()}.
ask(Items, #counting{waiting = none, census = Census, asked = Asked, late = Late, answered = Answered} = C) ->
    case event_pusher_changes:questions(Items) of
        [] -> {counted, [], C};
        Questions ->
            Id = Asked + 1,
            _ = Census =/= none andalso (Census ! {count, Id, Questions}),
            case Census =:= none orelse Late of
                true -> {counted, unknown, C#counting{asked = Id}};
                false ->
                    Bound = case Answered of
                                true -> ?COUNT_MS;
                                false -> ?FIRST_COUNT_MS
                            end,
                    _ = erlang:send_after(Bound, self(), {count_late, Id}),
                    {waiting, C#counting{waiting = {Id, Items}, asked = Id}}
            end
    end.

%% Handles a message to the process: the group is `counted`, or `late` and without counts; or the census was restarted.
-spec handle(term(), counting()) ->
          {counted | late, [event_pusher_changes:item()], counts(), counting()} | {ok | restarted, counting()} | ignored.
handle({counted, Id, Counts}, #counting{waiting = {Id, Items}} = C) ->
    {counted, Items, Counts, C#counting{waiting = none, answered = true}};
handle({counted, Id, _}, #counting{asked = Id} = C) ->
    {ok, C#counting{late = false, answered = true}};
handle({count_late, Id}, #counting{waiting = {Id, Items}} = C) ->
    {late, Items, unknown, C#counting{waiting = none, late = true}};
handle({'EXIT', Census, Reason}, #counting{census = Census, host = Host, waiting = Waiting} = C) ->
    event_pusher_log:log(error, "~ts: counting sessions failed: ~p", [Host, Reason]),
    _ = erlang:send_after(?RESTART_MS, self(), restart_census),
    C1 = C#counting{census = none, late = true, waiting = none},
    case Waiting of
        {_, Items} -> {counted, Items, unknown, C1};
        none -> {ok, C1}
    end;
handle(restart_census, #counting{server = Server, host = Host, run = Run} = C) ->
    {restarted, C#counting{census = Server:start_census(self(), Host, Run)}};
handle(_, _) ->
    ignored.

%% Returns the waiting group, if any, and stops waiting.
-spec give_up(counting()) -> {[event_pusher_changes:item()], counting()} | {none, counting()}.
give_up(#counting{waiting = {_, Items}} = C) -> {Items, C#counting{waiting = none, late = true}};
give_up(C) -> {none, C#counting{late = true}}.
