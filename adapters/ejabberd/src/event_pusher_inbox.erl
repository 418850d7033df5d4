%%% Passes what the hooks see to the adapter's process: one message per item, limited by shared counters.
%%%
%%% Invariants:
%%%  - A hook never waits. The items of one session arrive in order.
%%%  - `held` counts the events in mailbox, memory and queue. An event is admitted only below the maximum, so the
%%%    mailbox is bounded too. A dropped event leaves one `dropped` marker in its place.
%%%  - While the process is away (a crash, an upgrade), items are kept aside, in a table that none of our processes
%%%    owns.
%%%
%%% The process receives {seen, Item}, and fetches further items with `take`.
-module(event_pusher_inbox).

-export([open/2, delete/1, message/2, put/2]).
-export([take/0, take_aside/1, admit/1, release/2, add/2, held/1, held_of/1, limit/2, take_dropped/1]).
-export_type([inbox/0]).

-record(inbox, {gauge :: atomics:atomics_ref(), owner :: atom()}).

-opaque inbox() :: #inbox{}.

%% An array of atomics: events held, the maximum, and events dropped since the process last asked.
-define(HELD, 1).
-define(MAX, 2).
-define(DROPPED, 3).
-define(SIZE, 3).
-define(ASIDE, event_pusher_aside).

%%%------------------------------------------------------------------------------------------------ for the process

%% Opens the inbox of the process registered as `Owner`. Keeps the count of events dropped before it started.
-spec open(term(), atom()) -> inbox().
open(Name, Owner) ->
    Gauge = case find(Name) of
                #inbox{gauge = Former} -> Former;
                none -> atomics:new(?SIZE, [{signed, true}])
            end,
    atomics:put(Gauge, ?HELD, 0),
    ok = make_aside(),
    Inbox = #inbox{gauge = Gauge, owner = Owner},
    persistent_term:put({?MODULE, Name}, Inbox),
    Inbox.

%% Its owner's code is never replaced.
make_aside() ->
    try
        Table = ets:new(?ASIDE, [named_table, public, ordered_set]),
        true = ets:give_away(Table, spawn(timer, sleep, [infinity]), none),
        ok
    catch
        %% It exists already.
        error:badarg -> ok
    end.

%% Returns in order what the hooks saw while no process was running. From now on nothing is kept aside.
-spec take_aside(inbox()) -> [term()].
take_aside(#inbox{owner = Owner} = Inbox) ->
    Found = ets:select(?ASIDE, [{{{Owner, '_'}, '_'}, [], ['$_']}]),
    lists:foreach(fun({Key, _}) -> ets:delete(?ASIDE, Key) end, Found),
    Items = [Item || {_, Item} <- Found],
    add(length([Json || Json <- Items, is_binary(Json)]), Inbox),
    Items.

-spec delete(term()) -> ok.
delete(Name) ->
    _ = persistent_term:erase({?MODULE, Name}),
    ok.

%% Returns all items in the mailbox.
-spec take() -> [term()].
take() ->
    receive
        {seen, Item} -> [Item | take()]
    after 0 -> []
    end.

%% Returns how many events were dropped since the last call.
-spec take_dropped(inbox()) -> non_neg_integer().
take_dropped(#inbox{gauge = Gauge}) ->
    atomics:exchange(Gauge, ?DROPPED, 0).

-spec limit(pos_integer(), inbox()) -> ok.
limit(Max, #inbox{gauge = Gauge}) ->
    atomics:put(Gauge, ?MAX, Max).

-spec held(inbox()) -> integer().
held(#inbox{gauge = Gauge}) ->
    atomics:get(Gauge, ?HELD).

%% Counts more held events: those found on disk at a start.
-spec add(non_neg_integer(), inbox()) -> ok.
add(Count, #inbox{gauge = Gauge}) ->
    atomics:add(Gauge, ?HELD, Count).

%% Counts fewer held events.
-spec release(non_neg_integer(), inbox()) -> ok.
release(Count, #inbox{gauge = Gauge}) ->
    atomics:sub(Gauge, ?HELD, Count).

%% Counts one more held event if there is room.
-spec admit(inbox()) -> boolean().
admit(#inbox{gauge = Gauge}) ->
    case atomics:add_get(Gauge, ?HELD, 1) > atomics:get(Gauge, ?MAX) of
        true ->
            atomics:sub(Gauge, ?HELD, 1),
            false;
        false -> true
    end.

%%%-------------------------------------------------------------------------------------------------- for the hooks

%% How many events wait; `none` if nothing was started under this name.
-spec held_of(term()) -> integer() | none.
held_of(Name) ->
    case find(Name) of
        none -> none;
        Inbox -> held(Inbox)
    end.

%% Sends a message's event, which `Make` creates only if there is room.
-spec message(term(), fun(() -> binary())) -> ok.
message(Name, Make) ->
    case find(Name) of
        none -> ok;
        #inbox{gauge = Gauge} = Inbox ->
            Taken = admit(Inbox) andalso send(Inbox, Make()),
            %% One marker for all events that are dropped until it is read; it marks their place in the order.
            _ = Taken orelse (atomics:add_get(Gauge, ?DROPPED, 1) =:= 1 andalso send(Inbox, dropped)),
            ok
    end.

%% Sends any other item, such as a change of a session.
-spec put(term(), term()) -> ok.
put(Name, Item) ->
    case find(Name) of
        none -> ok;
        Inbox ->
            _ = send(Inbox, Item),
            ok
    end.

find(Name) ->
    persistent_term:get({?MODULE, Name}, none).

send(#inbox{owner = Owner}, Item) ->
    try
        Owner ! {seen, Item},
        true
    catch
        error:badarg -> ets:insert(?ASIDE, {{Owner, erlang:unique_integer([monotonic])}, Item})
    end.
