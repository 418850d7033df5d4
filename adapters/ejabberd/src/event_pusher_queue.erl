%%% The queue on disk: committed events that the daemon does not have yet, and the ledger of open sessions.
%%%
%%% Invariants:
%%%  - An event is read (`batch`) only after it was committed under its position. Positions only grow.
%%%  - Each opening begins a new epoch. So neither a restored folder nor a run that lost its last group makes two events
%%%    share a number. Events of earlier runs go first, under their own epoch and numbers.
%%%  - The committed operations add up to an event_pusher_committed, which is the head of each segment.
%%%  - A session's ledger entry and the event that reports its change are committed in one group. So after a crash the
%%%    ledger knows exactly whose offline event is still due.
%%%  - Unreadable data only loses itself; it is logged and leaves a hole in the numbers.
%%%
%%% The owner calls `open`, `append` (commits operations), `batch`, `taken` (the daemon has it) or `renumber`, `close`,
%%% all in one process. This module calls nothing of an XMPP server.
-module(event_pusher_queue).

-export([open/3, append/2, batch/2, unsent/2, taken/2, lost/2, renumber/3, close/1]).
-export([next/1, acked/1, acked_before/1, ledger/1, undelivered/1, dir/1]).
-export_type([queue/0, batch/0]).

-type position() :: event_pusher_segment:position().

-record(queue, {dir :: file:filename_all(),
                source :: binary(),
                committed = event_pusher_committed:new() :: event_pusher_committed:committed(),
                %% The last position in each file, and the files with a damaged region.
                segments = #{} :: #{pos_integer() => non_neg_integer()},
                damaged = [] :: [pos_integer()],
                %% The file being written.
                fd = none :: file:io_device() | none,
                number = 0 :: non_neg_integer(),
                size = 0 :: non_neg_integer(),
                %% Events read but not acknowledged, and where to read next.
                reader = {1, 0, none} :: {pos_integer(), non_neg_integer(), file:io_device() | none},
                window = [] :: [event_pusher_segment:event()],
                window_count = 0 :: non_neg_integer(),
                window_bytes = 0 :: non_neg_integer(),
                %% The highest position that may have been sent.
                sent = 0 :: non_neg_integer(),
                %% The epoch of the last event that the daemon took, and how many are lost since.
                heard = {none, 0} :: {none | binary(), non_neg_integer()},
                %% When the queue was opened: how many events it had, and the last position that was acknowledged.
                undelivered = 0 :: non_neg_integer(),
                acked_before = 0 :: non_neg_integer()}).

-opaque queue() :: #queue{}.
%% `known`: how many of its first events may have been sent before.
-type batch() :: #{source := binary(), epoch := binary(), first_seq := integer(),
                   events := [binary()], count := pos_integer(),
                   first := position(), last := position(), known := non_neg_integer()}.

%% Less than the protocol allows, so that the daemon's other sources are not held up.
-define(BATCH_BYTES, 1048576 - 2048).
-define(SEGMENT_BYTES, 8388608).
%% A large commit is split into groups of this size, which are quick to read.
-define(GROUP_BYTES, 262144).

%%%------------------------------------------------------------------------------------------------------- opening

%% Opens the queue in a folder, creating it if necessary. New events are sent as `Source`. `Label` begins the log lines.
-spec open(file:filename_all(), binary(), unicode:chardata()) -> {ok, queue()} | {error, file:filename_all(), term()}.
open(Dir, Source, Label) ->
    try
        ok = must(Dir, filelib:ensure_dir(filename:join(Dir, "x"))),
        {Numbers, Strangers} = must(Dir, event_pusher_segment:numbers(Dir)),
        Strangers =:= [] orelse
            event_pusher_log:log(warning, "~ts: ignoring files in ~ts that are not the queue's: ~0tp", [Label, Dir, Strangers]),
        Replay = fun(Number, {Queue, Ranges}) -> replay(Number, Label, Queue, Ranges) end,
        {Found, Ranges} = lists:foldl(Replay, {#queue{dir = Dir, source = Source}, []}, Numbers),
        {ok, begin_run(Found, Ranges)}
    catch
        throw:{file, Path, Reason} -> {error, Path, Reason}
    end.

must(_, ok) -> ok;
must(_, {ok, Value}) -> Value;
must(Path, {error, Reason}) -> throw({file, Path, Reason}).

%% A file that can't be opened is skipped: better to deliver the others than not to start.
replay(Number, Label, #queue{dir = Dir, segments = Segments} = Queue, Ranges) ->
    Path = event_pusher_segment:path(Dir, Number),
    Step = fun({group, Ops}, {#queue{committed = C} = Queue1, Here}) ->
                   {Queue1#queue{committed = event_pusher_committed:apply_ops(Ops, C)},
                    ranges(event_pusher_segment:events(Ops)) ++ Here};
              ({Kind, From, To}, {Queue1, Here}) ->
                   report(Kind, Label, Path, From, To),
                   {mark(Kind, Number, Queue1), Here}
           end,
    case event_pusher_segment:fold(Path, Step, {Queue, []}) of
        {ok, {Queue1, Here}} ->
            Last = lists:max([0 | [Last || {_, Last} <- Here]]),
            {Queue1#queue{number = Number, segments = Segments#{Number => Last}}, Here ++ Ranges};
        {error, Reason} ->
            event_pusher_log:log(error, "~ts: ~ts ~ts: its events wait for the next start", [Label, Path, why(Reason)]),
            {Queue#queue{number = Number}, Ranges}
    end.

why({later, Version, Known}) ->
    io_lib:format("was written by a later release (version ~B of the file, this one reads up to ~B)", [Version, Known]);
why(Reason) ->
    io_lib:format("can't be read (~0p)", [Reason]).

%% Joins consecutive positions to ranges.
ranges([]) -> [];
ranges([{First, _} | Events]) -> ranges(First, First, Events).

ranges(First, Last, [{Next, _} | Events]) when Next =:= Last + 1 -> ranges(First, Next, Events);
ranges(First, Last, Events) -> [{First, Last} | ranges(Events)].

report(torn, Label, Path, From, To) ->
    event_pusher_log:log(notice, "~ts: ignoring the last ~B bytes of ~ts, an unfinished write",
                         [Label, To - From, Path]);
report(damaged, Label, Path, From, To) ->
    event_pusher_log:log(error, "~ts: ~ts is damaged from byte ~B to ~B; delivering the rest",
                         [Label, Path, From, To]).

mark(torn, _, Queue) -> Queue;
mark(damaged, Number, #queue{damaged = Damaged} = Queue) -> Queue#queue{damaged = lists:usort([Number | Damaged])}.

begin_run(#queue{committed = Found, source = Source, segments = Segments} = Queue, Ranges) ->
    Committed = event_pusher_committed:run(Source, Found),
    Queue1 = new_segment_or_throw(Queue#queue{committed = Committed, sent = event_pusher_committed:next(Committed) - 1}),
    First = lists:min([Queue1#queue.number | maps:keys(Segments)]),
    {Acked, Stretches} = {event_pusher_committed:acked(Committed), event_pusher_committed:stretches(Committed)},
    Undelivered = [event_pusher_stretches:sendable(max(From, Acked + 1), To, Stretches) || {From, To} <- Ranges],
    Heard = case event_pusher_stretches:at(Acked + 1, Stretches) of
                {{_, _, Epoch, Base}, _} when Acked > Base -> Epoch;
                _ -> none
            end,
    sweep(Queue1#queue{reader = {First, 0, none}, undelivered = lists:sum(Undelivered), heard = {Heard, 0},
                       acked_before = Acked}).

%%%------------------------------------------------------------------------------------------------------- writing

%% Commits operations: they are on disk when this returns.
-spec append([event_pusher_segment:op()], queue()) -> {ok, queue()} | {error, term(), queue()}.
append(Ops, Queue) ->
    #queue{fd = Fd, number = Number, size = Size, segments = Segments, committed = Committed} = Queue1 = roll(Queue),
    Events = event_pusher_segment:events(Ops),
    All = event_pusher_committed:holes(Events, Committed) ++ Ops,
    %% One binary: each one of a list would be a system call.
    Data = iolist_to_binary([event_pusher_segment:group(Part) || Part <- parts(All, [], 0)]),
    case event_pusher_segment:write(Fd, Size, Data) of
        ok ->
            Last = case Events of
                       [] -> map_get(Number, Segments);
                       _ -> element(1, lists:last(Events))
                   end,
            {ok, follow(Events, Queue1#queue{size = Size + byte_size(Data), segments = Segments#{Number := Last},
                                             committed = event_pusher_committed:apply_ops(All, Committed)}, Size)};
        {error, Reason} -> {error, Reason, Queue1}
    end.

%% A reader that had come to the end need not read what it can have at once.
follow(Events, #queue{reader = {Number, End, Fd}, number = Number, size = Size, window_bytes = Bytes} = Queue, End)
  when Bytes < ?BATCH_BYTES ->
    widen(Events, Queue#queue{reader = {Number, Size, Fd}});
follow(_, Queue, _) ->
    Queue.

%% The larger the ledger, the larger the segments, so that copying the ledger never dominates.
roll(#queue{size = Size, committed = Committed} = Queue) ->
    case Size > max(?SEGMENT_BYTES, 500 * map_size(event_pusher_committed:ledger(Committed))) of
        true ->
            case new_segment(Queue) of
                {ok, Queue1} -> sweep(Queue1);
                {error, _} -> Queue
            end;
        false -> Queue
    end.

new_segment_or_throw(#queue{dir = Dir} = Queue) ->
    case new_segment(Queue) of
        {ok, Queue1} -> Queue1;
        {error, Reason} -> throw({file, Dir, Reason})
    end.

%% Begins a new segment, so that earlier ones can be deleted once their events are delivered.
new_segment(#queue{dir = Dir, number = Number, fd = Former, segments = Segments, committed = Committed} = Queue) ->
    Path = event_pusher_segment:path(Dir, Number + 1),
    Op = event_pusher_committed:head(Committed),
    Head = event_pusher_segment:group([Op]),
    case file:open(Path, [write, exclusive, raw, binary]) of
        {ok, Fd} ->
            case event_pusher_segment:write(Fd, 0, Head) of
                ok ->
                    _ = Former =/= none andalso file:close(Former),
                    {ok, Queue#queue{fd = Fd, number = Number + 1, size = iolist_size(Head),
                                     committed = event_pusher_committed:apply_ops([Op], Committed),
                                     segments = Segments#{Number + 1 => 0}}};
                {error, Reason} ->
                    _ = file:close(Fd),
                    _ = file:delete(Path),
                    {error, Reason}
            end;
        %% Some other file has that name.
        {error, eexist} -> new_segment(Queue#queue{number = Number + 1});
        {error, Reason} -> {error, Reason}
    end.

%% An event and its ledger change are one operation, so any split is safe.
parts([], Part, _) ->
    [lists:reverse(Part)];
parts(Ops, Part, Bytes) when Bytes > ?GROUP_BYTES ->
    [lists:reverse(Part) | parts(Ops, [], 0)];
parts([{event, _, Json} = Op | Ops], Part, Bytes) ->
    parts(Ops, [Op | Part], Bytes + byte_size(Json));
parts([Op | Ops], Part, Bytes) ->
    parts(Ops, [Op | Part], Bytes + 100 + bytes(event_pusher_segment:events([Op]))).

bytes(Events) ->
    lists:sum([byte_size(Json) || {_, Json} <- Events]).

%%%------------------------------------------------------------------------------------------------------- reading

%% The next events to send: consecutive positions of one stretch, at most `Limit`.
-spec batch(pos_integer(), queue()) -> {ok, batch(), queue()} | {none, queue()} | {error, term()}.
batch(Limit, Queue) ->
    case fill(Limit, Queue) of
        {error, Reason} -> {error, Reason};
        #queue{window = []} = Queue1 -> {none, Queue1};
        #queue{window = [{First, _} | _]} = Queue1 -> batch(Limit, First, Queue1)
    end.

batch(Limit, First, #queue{window = Window, committed = Committed, sent = Sent} = Queue) ->
    case event_pusher_stretches:at(First, event_pusher_committed:stretches(Committed)) of
        {{_, skip}, Next} -> batch(Limit, narrow(Next - 1, Queue));
        {{_, Source, Epoch, Base}, Next} ->
            Events = take(Window, First, until(First, Limit, Next), ?BATCH_BYTES),
            Last = First + length(Events) - 1,
            Batch = #{source => Source, epoch => Epoch, first_seq => First - Base, events => Events,
                      count => length(Events), first => First, last => Last,
                      known => max(0, min(Sent, Last) - First + 1)},
            {ok, Batch, Queue#queue{sent = max(Sent, Last)}}
    end.

until(_, Limit, infinity) -> Limit;
until(First, Limit, Next) -> min(Limit, Next - First).

%% An event larger than a batch is sent alone.
take([{Position, Json} | Window], Position, Limit, Room)
  when Limit > 0, byte_size(Json) < Room; Limit > 0, Room =:= ?BATCH_BYTES ->
    [Json | take(Window, Position + 1, Limit - 1, Room - byte_size(Json) - 1)];
take(_, _, _, _) ->
    [].

%% Reads groups until the window has a batch. The window may have more, since it reads whole groups.
fill(Limit, #queue{window_count = Count, window_bytes = Bytes} = Queue) when Count < Limit, Bytes < ?BATCH_BYTES ->
    case read_group(Queue) of
        {ok, Ops, Queue1} -> fill(Limit, widen(event_pusher_segment:events(Ops), Queue1));
        {error, Reason} -> {error, Reason};
        eof -> Queue
    end;
fill(_, Queue) ->
    Queue.

widen(Events, #queue{committed = Committed, window = Window, window_count = Count, window_bytes = Bytes} = Queue) ->
    New = beyond(event_pusher_committed:acked(Committed), Events),
    Queue#queue{window = Window ++ New, window_count = Count + length(New), window_bytes = Bytes + bytes(New)}.

narrow(Position, #queue{window = Window} = Queue) ->
    Rest = beyond(Position, Window),
    Queue#queue{window = Rest, window_count = length(Rest), window_bytes = bytes(Rest)}.

beyond(Position, Events) ->
    lists:dropwhile(fun({At, _}) -> At =< Position end, Events).

read_group(#queue{reader = {Number, Offset, _}, number = Number, size = Offset}) ->
    eof;
read_group(#queue{reader = {Number, Offset, none}, dir = Dir} = Queue) ->
    case file:open(event_pusher_segment:path(Dir, Number), [read, raw, binary]) of
        {ok, Fd} -> read_group(Queue#queue{reader = {Number, Offset, Fd}});
        {error, enoent} -> skip_to(end_of(Queue), Queue);
        {error, Reason} -> {error, Reason}
    end;
read_group(#queue{reader = {Number, Offset, Fd}, number = Last} = Queue) ->
    case event_pusher_segment:read(Fd, Offset) of
        {ok, Ops, Next} -> {ok, Ops, Queue#queue{reader = {Number, Next, Fd}}};
        {error, Reason} -> {error, Reason};
        eof when Number < Last ->
            _ = file:close(Fd),
            read_group(Queue#queue{reader = following(Queue)});
        eof -> skip_to(end_of(Queue), Queue);
        {_, Next} -> skip_to(Next, Queue)
    end.

%% Damage in earlier files was reported when they were opened. This run's own file was intact when it was written.
skip_to(Next, #queue{reader = {Number, Offset, Fd}, number = Number, dir = Dir} = Queue) ->
    report(damaged, "queue", event_pusher_segment:path(Dir, Number), Offset, Next),
    read_group((mark(damaged, Number, Queue))#queue{reader = {Number, Next, Fd}});
skip_to(following, Queue) ->
    read_group(Queue#queue{reader = following(Queue)});
skip_to(Next, #queue{reader = {Number, _, Fd}} = Queue) ->
    read_group(Queue#queue{reader = {Number, Next, Fd}}).

end_of(#queue{reader = {Number, _, _}, number = Number, size = Size}) -> Size;
end_of(_) -> following.

following(#queue{reader = {Number, _, _}, segments = Segments}) ->
    {lists:min([N || N <- maps:keys(Segments), N > Number]), 0, none}.

%%%--------------------------------------------------------------------------------------------------- delivered

%% Nothing of the batch was sent.
-spec unsent(batch(), queue()) -> queue().
unsent(#{first := First, known := Known}, #queue{sent = Sent} = Queue) ->
    Queue#queue{sent = min(Sent, First + Known - 1)}.

%% The daemon has all events up to this position. The caller commits an {ack, Position} later.
-spec taken(batch(), queue()) -> queue().
taken(#{last := Last, epoch := Epoch}, Queue) ->
    done(Last, Queue#queue{heard = {Epoch, 0}}).

done(Position, #queue{committed = Committed} = Queue) ->
    Acked = case event_pusher_stretches:at(Position + 1, event_pusher_committed:stretches(Committed)) of
                {{_, skip}, Next} -> Next - 1;
                _ -> Position
            end,
    sweep((narrow(Acked, Queue))#queue{committed = event_pusher_committed:acked(Acked, Committed)}).

%% The daemon can't take the batch's only event. It notices if it knows an earlier number of the epoch and gets a later one.
-spec lost(batch(), queue()) -> {ok, queue()} | {error, term(), queue()}.
lost(#{last := Position, epoch := Epoch}, #queue{heard = {Heard, Lost}, committed = Committed} = Queue) ->
    case Heard =:= Epoch andalso event_pusher_committed:is_followed(Position, Committed) of
        true -> {ok, done(Position, Queue#queue{heard = {Epoch, Lost + 1}})};
        false ->
            case append(event_pusher_committed:lost(Position, Lost + 1, Queue#queue.source, Committed), Queue) of
                {ok, Queue1} -> {ok, done(Position, Queue1#queue{heard = {Heard, 0}})};
                Error -> Error
            end
    end.

%% The daemon reports the batch's first `Duplicates` events as known, though some were sent for the first time: another
%% run used their numbers. Those get a new epoch. The events after them were accepted. Returns how many events of the
%% batch are done.
-spec renumber(batch(), pos_integer(), queue()) -> {ok, non_neg_integer(), queue()} | {error, term(), queue()}.
renumber(#{first := First, last := Last, known := Known, source := Source}, Duplicates, Queue) ->
    From = First + Known,
    To = First + Duplicates - 1,
    Former = event_pusher_committed:stretches(Queue#queue.committed),
    Stretches = event_pusher_stretches:renumber(From, To, Last, Source, Former),
    case append([{ack, From - 1}, {stretches, Stretches}], Queue) of
        {ok, Queue1} -> {ok, Known + Last - To, sweep((narrow(From - 1, Queue1))#queue{sent = From - 1})};
        {error, Reason, Queue1} -> {error, Reason, Queue1#queue{sent = From - 1}}
    end.

%% Deletes segments without undelivered events; keeps damaged ones for inspection.
sweep(#queue{dir = Dir, number = Number, segments = Segments, committed = Committed, reader = Reader} = Queue) ->
    Acked = event_pusher_committed:acked(Committed),
    Gone = [No || {No, Last} <- maps:to_list(Segments), No < Number, Last =< Acked],
    lists:foreach(fun(No) -> remove(Dir, No, lists:member(No, Queue#queue.damaged)) end, Gone),
    Kept = maps:without(Gone, Segments),
    case Reader of
        {No, _, Fd} when not is_map_key(No, Kept) ->
            _ = Fd =/= none andalso file:close(Fd),
            Queue#queue{segments = Kept, reader = {lists:min([N || N <- maps:keys(Kept), N > No]), 0, none}};
        _ -> Queue#queue{segments = Kept}
    end.

remove(Dir, Number, false) ->
    _ = file:delete(event_pusher_segment:path(Dir, Number)),
    ok;
remove(Dir, Number, true) ->
    _ = file:rename(event_pusher_segment:path(Dir, Number), event_pusher_segment:damaged_path(Dir, Number)),
    ok.

-spec close(queue()) -> ok.
close(#queue{fd = Fd, reader = {_, _, Reader}}) ->
    lists:foreach(fun(File) -> _ = File =/= none andalso file:close(File) end, [Reader, Fd]).

-spec next(queue()) -> position().
next(#queue{committed = Committed}) -> event_pusher_committed:next(Committed).

-spec acked(queue()) -> non_neg_integer().
acked(#queue{committed = Committed}) -> event_pusher_committed:acked(Committed).

%% Likewise, when the queue was opened.
-spec acked_before(queue()) -> non_neg_integer().
acked_before(#queue{acked_before = Acked}) -> Acked.

-spec ledger(queue()) -> event_pusher_segment:ledger().
ledger(#queue{committed = Committed}) -> event_pusher_committed:ledger(Committed).

%% How many events were found when the queue was opened.
-spec undelivered(queue()) -> non_neg_integer().
undelivered(#queue{undelivered = Undelivered}) -> Undelivered.

-spec dir(queue()) -> file:filename_all().
dir(#queue{dir = Dir}) -> Dir.
