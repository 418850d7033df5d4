%%% How the hooks hand over what they see: a message to the adapter's process for each item, bounded by counters that all
%%% share.
%%%
%%% Invariants:
%%%  - A hook never waits. What one session does is read in the order in which it happens.
%%%  - `held` counts the events that are anywhere (mailbox, memory, disk). An event is admitted only while it is below the
%%%    maximum, so the mailbox is bounded too. What is not admitted leaves one `dropped` marker in its place.
%%%
%%%  - While the process is away (a crash, a newer version) items are kept aside, in a table that no process of ours owns.
%%%
%%% The process gets {seen, Item}, and takes what else has come with `take`.
-module(event_pusher_inbox).

-export([open/2, delete/1, message/2, put/2]).
-export([take/0, take_aside/1, admit/1, release/2, add/2, held/1, held_of/1, limit/2, take_dropped/1]).
-export_type([inbox/0]).

-record(inbox, {gauge :: atomics:atomics_ref(), owner :: atom()}).

-opaque inbox() :: #inbox{}.

%% An array of atomics: events held, the most that may be, and events dropped since the process last asked.
-define(HELD, 1).
-define(MAX, 2).
-define(DROPPED, 3).
-define(SIZE, 3).
-define(ASIDE, event_pusher_aside).

%%%------------------------------------------------------------------------------------------------ for the process

%% The inbox of the process registered as `Owner`. What was dropped before it started is counted still.
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

%% Its owner runs code that is never replaced.
make_aside() ->
    try
        Table = ets:new(?ASIDE, [named_table, public, ordered_set]),
        true = ets:give_away(Table, spawn(timer, sleep, [infinity]), none),
        ok
    catch
        %% It is there.
        error:badarg -> ok
    end.

%% What the hooks saw while no process was there, in order. It is held from now on.
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

%% What has come and was not read yet.
-spec take() -> [term()].
take() ->
    receive
        {seen, Item} -> [Item | take()]
    after 0 -> []
    end.

%% How many events have been dropped since this was last asked.
-spec take_dropped(inbox()) -> non_neg_integer().
take_dropped(#inbox{gauge = Gauge}) ->
    atomics:exchange(Gauge, ?DROPPED, 0).

-spec limit(pos_integer(), inbox()) -> ok.
limit(Max, #inbox{gauge = Gauge}) ->
    atomics:put(Gauge, ?MAX, Max).

-spec held(inbox()) -> integer().
held(#inbox{gauge = Gauge}) ->
    atomics:get(Gauge, ?HELD).

%% So many events more are held: what is found on disk at a start.
-spec add(non_neg_integer(), inbox()) -> ok.
add(Count, #inbox{gauge = Gauge}) ->
    atomics:add(Gauge, ?HELD, Count).

%% So many events are held no longer.
-spec release(non_neg_integer(), inbox()) -> ok.
release(Count, #inbox{gauge = Gauge}) ->
    atomics:sub(Gauge, ?HELD, Count).

%% Holds one more event, if there is room for it.
-spec admit(inbox()) -> boolean().
admit(#inbox{gauge = Gauge}) ->
    case atomics:add_get(Gauge, ?HELD, 1) > atomics:get(Gauge, ?MAX) of
        true ->
            atomics:sub(Gauge, ?HELD, 1),
            false;
        false -> true
    end.

%%%-------------------------------------------------------------------------------------------------- for the hooks

%% How many events wait, for whoever asks; `none` where nothing was started under this name.
-spec held_of(term()) -> integer() | none.
held_of(Name) ->
    case find(Name) of
        none -> none;
        Inbox -> held(Inbox)
    end.

%% A message's event, made by `Make` if there is room for it.
-spec message(term(), fun(() -> binary())) -> ok.
message(Name, Make) ->
    case find(Name) of
        none -> ok;
        #inbox{gauge = Gauge} = Inbox ->
            Taken = admit(Inbox) andalso send(Inbox, Make()),
            %% One marker for all that are dropped until it is seen: it says where in the order they were.
            _ = Taken orelse (atomics:add_get(Gauge, ?DROPPED, 1) =:= 1 andalso send(Inbox, dropped)),
            ok
    end.

%% Anything that is no event yet, such as a session's change.
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
