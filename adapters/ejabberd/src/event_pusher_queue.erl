%%% The queue on disk: what was committed and the daemon does not have yet, and the ledger of the open sessions.
%%%
%%% Invariants:
%%%  - An event is handed out (`batch`) only after it was committed under its position. Positions only grow.
%%%  - Each opening begins an epoch of its own. So a folder that was copied back, or a run that lost its last group, never
%%%    sends two events under one number. What an older run left goes first, under the epoch and numbers it had.
%%%  - What is committed amounts to an event_pusher_committed, which is the head of each segment.
%%%  - A session's entry in the ledger and the event that reports its change are committed in one group. So after a
%%%    crash the ledger says exactly whose offline event is still owed.
%%%  - Whatever can't be read costs itself only; it is logged and leaves a hole in the numbers.
%%%
%%% `open`, `append` (commits a list of operations), `batch`, `taken` (the daemon has it) or `renumber`, `close`: all in
%%% the process that owns the queue. Nothing of an XMPP server is called.
-module(event_pusher_queue).

-export([open/3, append/2, batch/2, unsent/2, taken/2, renumber/3, close/1]).
-export([next/1, acked/1, ledger/1, undelivered/1, dir/1]).
-export_type([queue/0, batch/0]).

-type position() :: event_pusher_segment:position().

-record(queue, {dir :: file:filename(),
                source :: binary(),
                committed = event_pusher_committed:new() :: event_pusher_committed:committed(),
                %% The last position in each file, and the files with a damaged region.
                segments = #{} :: #{pos_integer() => non_neg_integer()},
                damaged = [] :: [pos_integer()],
                %% The file that is written to.
                fd = none :: file:io_device() | none,
                number = 0 :: non_neg_integer(),
                size = 0 :: non_neg_integer(),
                %% What is read and not acknowledged yet, and where reading goes on.
                reader = {1, 0, none} :: {pos_integer(), non_neg_integer(), file:io_device() | none},
                window = [] :: [event_pusher_segment:event()],
                window_count = 0 :: non_neg_integer(),
                window_bytes = 0 :: non_neg_integer(),
                %% The highest position that may have been sent.
                sent = 0 :: non_neg_integer(),
                %% How many events there were at the opening.
                undelivered = 0 :: non_neg_integer()}).

-opaque queue() :: #queue{}.
%% `known`: so many of its first events may have been sent before.
-type batch() :: #{source := binary(), epoch := binary(), first_seq := integer(),
                   events := [binary()], count := pos_integer(),
                   first := position(), last := position(), known := non_neg_integer()}.

%% Fewer bytes than the protocol allows keep the daemon's other sources moving.
-define(BATCH_BYTES, 1048576 - 2048).
-define(SEGMENT_BYTES, 8388608).
%% What is committed at once is split into groups of this size, that are good to read.
-define(GROUP_BYTES, 262144).

%%%------------------------------------------------------------------------------------------------------- opening

%% The queue in a folder, made where it is missing. New events are sent as `Source`. `Label` begins its log lines.
-spec open(file:filename(), binary(), unicode:chardata()) -> {ok, queue()} | {error, file:filename(), term()}.
open(Dir, Source, Label) ->
    try
        ok = must(Dir, filelib:ensure_dir(filename:join(Dir, "x"))),
        {Numbers, Strangers} = must(Dir, event_pusher_segment:numbers(Dir)),
        Strangers =:= [] orelse
            event_pusher_log:log(warning, "~ts: not the queue's, left alone in ~ts: ~0tp", [Label, Dir, Strangers]),
        Replay = fun(Number, {Queue, Ranges}) -> replay(Number, Label, Queue, Ranges) end,
        {Found, Ranges} = lists:foldl(Replay, {#queue{dir = Dir, source = Source}, []}, Numbers),
        {ok, begin_run(Found, Ranges)}
    catch
        throw:{file, Path, Reason} -> {error, Path, Reason}
    end.

must(_, ok) -> ok;
must(_, {ok, Value}) -> Value;
must(Path, {error, Reason}) -> throw({file, Path, Reason}).

%% A file that can't be opened is left alone too: the others are worth more than an adapter that does not start.
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
            event_pusher_log:log(error, "~ts: ~ts ~ts: its events wait for another start", [Label, Path, why(Reason)]),
            {Queue#queue{number = Number}, Ranges}
    end.

why({later, Version, Known}) ->
    io_lib:format("was written by a later release (version ~B of the file, this one reads up to ~B)", [Version, Known]);
why(Reason) ->
    io_lib:format("can't be read (~0p)", [Reason]).

%% Positions in a row, from the first one to the last.
ranges([]) -> [];
ranges([{First, _} | Events]) -> ranges(First, First, Events).

ranges(First, Last, [{Next, _} | Events]) when Next =:= Last + 1 -> ranges(First, Next, Events);
ranges(First, Last, Events) -> [{First, Last} | ranges(Events)].

report(torn, Label, Path, From, To) ->
    event_pusher_log:log(notice, "~ts: the last ~B bytes of ~ts were not written to their end, and are left out",
                         [Label, To - From, Path]);
report(damaged, Label, Path, From, To) ->
    event_pusher_log:log(error, "~ts: ~ts is damaged from byte ~B to ~B; the rest of it is delivered",
                         [Label, Path, From, To]).

mark(torn, _, Queue) -> Queue;
mark(damaged, Number, #queue{damaged = Damaged} = Queue) -> Queue#queue{damaged = lists:usort([Number | Damaged])}.

begin_run(#queue{committed = Found, source = Source, segments = Segments} = Queue, Ranges) ->
    Committed = event_pusher_committed:run(Source, Found),
    Queue1 = new_segment_or_throw(Queue#queue{committed = Committed, sent = event_pusher_committed:next(Committed) - 1}),
    First = lists:min([Queue1#queue.number | maps:keys(Segments)]),
    {Acked, Stretches} = {event_pusher_committed:acked(Committed), event_pusher_committed:stretches(Committed)},
    Undelivered = [event_pusher_stretches:sendable(max(From, Acked + 1), To, Stretches) || {From, To} <- Ranges],
    sweep(Queue1#queue{reader = {First, 0, none}, undelivered = lists:sum(Undelivered)}).

%%%------------------------------------------------------------------------------------------------------- writing

%% Commits operations: when this returns, they are on the disk.
-spec append([event_pusher_segment:op()], queue()) -> {ok, queue()} | {error, term(), queue()}.
append(Ops, Queue) ->
    #queue{fd = Fd, number = Number, size = Size, segments = Segments, committed = Committed} = Queue1 = roll(Queue),
    Events = event_pusher_segment:events(Ops),
    All = event_pusher_committed:holes(Events, Committed) ++ Ops,
    Data = [event_pusher_segment:group(Part) || Part <- parts(All, [], 0)],
    case event_pusher_segment:write(Fd, Size, Data) of
        ok ->
            Last = case Events of
                       [] -> map_get(Number, Segments);
                       _ -> element(1, lists:last(Events))
                   end,
            {ok, Queue1#queue{size = Size + iolist_size(Data), segments = Segments#{Number := Last},
                              committed = event_pusher_committed:apply_ops(All, Committed)}};
        {error, Reason} -> {error, Reason, Queue1}
    end.

%% The larger the ledger, the larger the segments, so that copying it never is most of the work.
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

%% A new segment takes over, so that the ones before it can go once their events are delivered.
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
        %% Something else has that name.
        {error, eexist} -> new_segment(Queue#queue{number = Number + 1});
        {error, Reason} -> {error, Reason}
    end.

%% An event and its change to the ledger are one operation, so any cut is right.
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

%% The next events to send: without a hole in their positions, of one stretch, at most so many.
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

%% One event that is larger than a batch goes alone.
take([{Position, Json} | Window], Position, Limit, Room)
  when Limit > 0, byte_size(Json) < Room; Limit > 0, Room =:= ?BATCH_BYTES ->
    [Json | take(Window, Position + 1, Limit - 1, Room - byte_size(Json) - 1)];
take(_, _, _, _) ->
    [].

%% The window is what was read and is not acknowledged yet: a batch, and what else was in the same groups.
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

%% A former file's damage was reported when it was opened. This run's own was whole when it was written.
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

%% Nothing of the batch has left this machine.
-spec unsent(batch(), queue()) -> queue().
unsent(#{first := First, known := Known}, #queue{sent = Sent} = Queue) ->
    Queue#queue{sent = min(Sent, First + Known - 1)}.

%% The daemon has all up to this position. The caller commits an {ack, Position} some time later.
-spec taken(position(), queue()) -> queue().
taken(Position, #queue{committed = Committed} = Queue) ->
    Acked = case event_pusher_stretches:at(Position + 1, event_pusher_committed:stretches(Committed)) of
                {{_, skip}, Next} -> Next - 1;
                _ -> Position
            end,
    sweep((narrow(Acked, Queue))#queue{committed = event_pusher_committed:acked(Acked, Committed)}).

%% The daemon calls the batch's first `Duplicates` events known, though some of these were sent for the first time: another
%% run has used their numbers. From these on a new epoch begins. Those behind them in the batch were accepted.
%% Answers how many of the batch need not be sent again.
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

%% Deletes the segments that no longer hold an event to deliver; keeps the damaged ones for whoever wants to look.
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
    Path = event_pusher_segment:path(Dir, Number),
    _ = file:rename(Path, filename:rootname(Path) ++ ".damaged"),
    ok.

-spec close(queue()) -> ok.
close(#queue{fd = Fd, reader = {_, _, Reader}}) ->
    lists:foreach(fun(File) -> _ = File =/= none andalso file:close(File) end, [Reader, Fd]).

%% The position of the next event.
-spec next(queue()) -> position().
next(#queue{committed = Committed}) -> event_pusher_committed:next(Committed).

-spec acked(queue()) -> non_neg_integer().
acked(#queue{committed = Committed}) -> event_pusher_committed:acked(Committed).

-spec ledger(queue()) -> event_pusher_segment:ledger().
ledger(#queue{committed = Committed}) -> event_pusher_committed:ledger(Committed).

%% How many events the opening found.
-spec undelivered(queue()) -> non_neg_integer().
undelivered(#queue{undelivered = Undelivered}) -> Undelivered.

-spec dir(queue()) -> file:filename().
dir(#queue{dir = Dir}) -> Dir.
