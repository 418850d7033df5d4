%%% Where the hooks put what they see: a table that many session processes write and one process reads.
%%%
%%% Invariants:
%%%  - A hook never waits: it inserts into the table, and wakes the reader only when nobody has yet. A message for each
%%%    item would wake the reader for each, which costs more than all else it does.
%%%  - Items are read in the order of their keys, which count up. So what one session does keeps its order.
%%%  - `held` counts the events that are anywhere (table, memory, disk). An event is admitted only while it is below the
%%%    maximum, so the table is bounded too. What is not admitted leaves one `dropped` marker in its place.
%%%
%%% The reader is woken by the message `{inbox, At}`, where At is the time of the oldest item.
-module(event_pusher_inbox).

-export([open/2, delete/1, message/2, put/2]).
-export([take/1, admit/1, release/2, add/2, held/1, held_of/1, limit/2, take_dropped/1]).
-export_type([reader/0]).

-record(inbox, {gauge :: atomics:atomics_ref(), table :: ets:tid(), owner :: atom()}).
-record(reader, {inbox :: #inbox{}, seen :: integer(), missing = [] :: [integer()]}).

%% What the reading process has of it.
-opaque reader() :: #reader{}.

%% An array of atomics: events held, the most that may be, events dropped since the reader last looked, whether the reader
%% was told to look, and how many items were ever put. Not erlang:unique_integer([monotonic]) for that: ejabberd compares
%% sessions of two nodes that are less than a second apart by how far each node has counted with it, and the one that has
%% counted further would win.
-define(HELD, 1).
-define(MAX, 2).
-define(DROPPED, 3).
-define(TOLD, 4).
-define(PUT, 5).
-define(SIZE, 5).

%%%------------------------------------------------------------------------------------------------- for the reader

%% A new table for the process registered as `Owner`. The counters outlive the process, and go on.
-spec open(term(), atom()) -> reader().
open(Name, Owner) ->
    Gauge = case find(Name) of
                #inbox{gauge = Former} -> Former;
                none -> atomics:new(?SIZE, [{signed, true}])
            end,
    Seen = atomics:get(Gauge, ?PUT),
    %% Not an ordered table: new keys meet at the end of that, where sessions would wait for one another. And not a named
    %% one: each use of a name looks it up in a table that all share.
    Table = ets:new(inbox, [public, {write_concurrency, true}]),
    Inbox = #inbox{gauge = Gauge, table = Table, owner = Owner},
    persistent_term:put({?MODULE, Name}, Inbox),
    [atomics:put(Gauge, Index, 0) || Index <- [?HELD, ?TOLD]],
    #reader{inbox = Inbox, seen = Seen}.

-spec delete(term()) -> ok.
delete(Name) ->
    _ = persistent_term:erase({?MODULE, Name}),
    ok.

%% Takes what is there, in order. One by one, for a lock that is held for longer keeps sessions waiting. A key that was
%% counted may come a moment later: it is looked for again each time. What its session does next has a higher key and comes
%% after it, so nothing is taken before what a session did earlier. What comes in from now on wakes the reader again.
-spec take(reader()) -> {[term()], reader()}.
take(#reader{inbox = #inbox{gauge = Gauge, table = Table}, seen = Seen, missing = Missing} = Reader) ->
    atomics:put(Gauge, ?TOLD, 0),
    Last = atomics:get(Gauge, ?PUT),
    {Found, StillMissing} = take_all(Missing ++ lists:seq(Seen + 1, Last), Table, [], []),
    {Found, Reader#reader{seen = Last, missing = StillMissing}}.

take_all([], _, Found, Missing) ->
    {lists:reverse(Found), lists:reverse(Missing)};
take_all([Key | Keys], Table, Found, Missing) ->
    case ets:take(Table, Key) of
        [{_, Item}] -> take_all(Keys, Table, [Item | Found], Missing);
        [] -> take_all(Keys, Table, Found, [Key | Missing])
    end.

%% How many events have been dropped since this was last asked.
-spec take_dropped(reader()) -> non_neg_integer().
take_dropped(#reader{inbox = #inbox{gauge = Gauge}}) ->
    atomics:exchange(Gauge, ?DROPPED, 0).

-spec limit(pos_integer(), reader()) -> ok.
limit(Max, #reader{inbox = #inbox{gauge = Gauge}}) ->
    atomics:put(Gauge, ?MAX, Max).

-spec held(reader()) -> integer().
held(#reader{inbox = #inbox{gauge = Gauge}}) ->
    atomics:get(Gauge, ?HELD).

%% So many events more are held: what is found on disk at a start.
-spec add(non_neg_integer(), reader()) -> ok.
add(Count, #reader{inbox = #inbox{gauge = Gauge}}) ->
    atomics:add(Gauge, ?HELD, Count).

%% So many events are held no longer.
-spec release(non_neg_integer(), reader()) -> ok.
release(Count, #reader{inbox = #inbox{gauge = Gauge}}) ->
    atomics:sub(Gauge, ?HELD, Count).

%% Holds one more event, if there is room for it.
-spec admit(reader()) -> boolean().
admit(#reader{inbox = Inbox}) ->
    has_room(Inbox).

%%%-------------------------------------------------------------------------------------------------- for the hooks

%% How many events wait, for whoever asks; `none` where nothing was started under this name.
-spec held_of(term()) -> integer() | none.
held_of(Name) ->
    case find(Name) of
        #inbox{gauge = Gauge} -> atomics:get(Gauge, ?HELD);
        none -> none
    end.

%% A message's event, made by `Make` if there is room for it.
-spec message(term(), fun(() -> binary())) -> ok.
message(Name, Make) ->
    case find(Name) of
        none -> ok;
        #inbox{gauge = Gauge} = Inbox ->
            Taken = has_room(Inbox) andalso insert(Name, Inbox, Make()),
            %% One marker for all that are dropped until it is seen: it says where in the order they were.
            Taken orelse (atomics:add_get(Gauge, ?DROPPED, 1) =:= 1 andalso insert(Name, Inbox, dropped)),
            ok
    end.

%% Anything that is no event yet, such as a session's change.
-spec put(term(), term()) -> ok.
put(Name, Item) ->
    case find(Name) of
        none -> ok;
        Inbox ->
            _ = insert(Name, Inbox, Item),
            ok
    end.

find(Name) ->
    persistent_term:get({?MODULE, Name}, none).

%% False while the table is gone, because the process starts again; what it misses of sessions it finds out then.
insert(Name, #inbox{gauge = Gauge, table = Table, owner = Owner} = Inbox, Item) ->
    try
        ets:insert(Table, {atomics:add_get(Gauge, ?PUT, 1), Item}),
        _ = atomics:get(Gauge, ?TOLD) =:= 0 andalso atomics:exchange(Gauge, ?TOLD, 1) =:= 0
            andalso (Owner ! {inbox, erlang:monotonic_time(millisecond)}),
        true
    catch
        %% Or the process has started again since the table was found.
        error:badarg ->
            case find(Name) of
                Inbox -> false;
                none -> false;
                New -> insert(Name, New, Item)
            end
    end.

has_room(#inbox{gauge = Gauge}) ->
    case atomics:add_get(Gauge, ?HELD, 1) > atomics:get(Gauge, ?MAX) of
        true ->
            atomics:sub(Gauge, ?HELD, 1),
            false;
        false -> true
    end.
