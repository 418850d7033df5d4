%%% The state that the committed operations add up to: positions, acknowledgements, the ledger of open sessions, the
%%% numbers of the positions, and lost numbers that the daemon has not noticed.
%%%
%%% Invariants:
%%%  - The daemon notices a hole when a later number of the same epoch arrives; an epoch's first number is never a hole.
%%%    So numbers lost at the end of a run or before its first event are `unseen`. They are skipped after the first
%%%    event of this or the next run, where the daemon notices them.
%%%  - The head of each segment has the unseen numbers, so they survive the deletion of earlier segments.
-module(event_pusher_committed).

-export([new/0, apply_ops/2, run/2, head/1, holes/2, lost/4, is_followed/2]).
-export([next/1, acked/1, acked/2, stretches/1, ledger/1]).
-export_type([committed/0]).

-type position() :: event_pusher_segment:position().
-type op() :: event_pusher_segment:op().

-record(committed, {next = 1 :: position(),
                    acked = 0 :: non_neg_integer(),
                    stretches = [] :: event_pusher_stretches:stretches(),
                    ledger = #{} :: event_pusher_segment:ledger(),
                    unseen = 0 :: non_neg_integer(),
                    %% Whether the last epoch has an event.
                    begun = false :: boolean()}).

-opaque committed() :: #committed{}.

-spec new() -> committed().
new() ->
    #committed{}.

-spec next(committed()) -> position().
next(#committed{next = Next}) -> Next.

-spec acked(committed()) -> non_neg_integer().
acked(#committed{acked = Acked}) -> Acked.

%% The daemon has all events up to this position.
-spec acked(non_neg_integer(), committed()) -> committed().
acked(Position, #committed{acked = Acked} = C) -> C#committed{acked = max(Position, Acked)}.

-spec stretches(committed()) -> event_pusher_stretches:stretches().
stretches(#committed{stretches = Stretches}) -> Stretches.

-spec ledger(committed()) -> event_pusher_segment:ledger().
ledger(#committed{ledger = Ledger}) -> Ledger.

%% Begins a run: its events are sent under a new epoch.
-spec run(Source :: binary(), committed()) -> committed().
run(Source, #committed{next = Next, acked = Acked, stretches = Stretches} = C) ->
    Covered = event_pusher_stretches:cover(Acked + 1, Next, Source, Stretches),
    C#committed{stretches = event_pusher_stretches:run(Next, Source, Covered), begun = false}.

%% The first operation of a new segment. Omits stretches that are no longer needed.
-spec head(committed()) -> op().
head(#committed{next = Next, acked = Acked, stretches = Stretches, ledger = Ledger, unseen = Unseen, begun = Begun}) ->
    Needed = event_pusher_stretches:needed(Acked + 1, Stretches),
    {head, 2, Next, Acked, {Unseen, Begun}, Needed, maps:to_list(Ledger)}.

%% The operations to commit before these events, so that the daemon notices earlier losses.
-spec holes([event_pusher_segment:event()], committed()) -> [op()].
holes([{First, _} | _], #committed{begun = false, next = Next, unseen = Unseen, stretches = Stretches}) ->
    case Unseen + First - Next of
        0 -> [];
        Lost -> [{stretches, event_pusher_stretches:leave_out(First, Lost, Stretches)}]
    end;
holes(_, _) ->
    [].

%% Whether the epoch of this position has a later one.
-spec is_followed(position(), committed()) -> boolean().
is_followed(Position, #committed{next = Next, stretches = Stretches}) ->
    event_pusher_stretches:is_followed(Position, Next, Stretches).

%% What has to be committed so that the daemon sees that so many events are lost, the last of them at this position: a new
%% epoch begins, which leaves out their numbers.
-spec lost(position(), pos_integer(), Source :: binary(), committed()) -> [op()].
lost(Position, Count, Source, #committed{next = Next, unseen = Unseen, stretches = Stretches}) ->
    Lost = Count + max(Unseen, event_pusher_stretches:left_out(Position, Stretches)),
    [{stretches, event_pusher_stretches:run(Next, Source, Stretches)}, {unseen, Lost}].

-spec apply_ops([op()], committed()) -> committed().
apply_ops(Ops, C) ->
    lists:foldl(fun apply_op/2, C, Ops).

apply_op({head, 2, Next, Acked, {Unseen, Begun}, Stretches, Ledger}, C) ->
    C1 = acked(Acked, reached(Next, C)),
    C1#committed{stretches = Stretches, ledger = maps:from_list(Ledger), unseen = Unseen, begun = Begun};
apply_op({head, 1, Source, Epoch, Next, Acked, Ledger}, #committed{stretches = Stretches} = C) ->
    Stretches1 = case Stretches of
                     [] -> [{1, Source, Epoch, 0}];
                     _ when element(3, hd(Stretches)) =:= Epoch -> Stretches;
                     _ -> Stretches ++ [{Next, Source, Epoch, 0}]
                 end,
    C1 = acked(Acked, reached(Next, C)),
    C1#committed{stretches = Stretches1, ledger = maps:from_list(Ledger), begun = Next > 1};
apply_op({events, {First, Sizes, _}}, C) ->
    Count = byte_size(Sizes) div 4,
    reached(First + Count, event(First + Count - 1, event(First, C)));
apply_op({event, Position, _}, C) ->
    event(Position, C);
apply_op({up, Ref, USR, Key, Position, _}, C) ->
    #committed{ledger = Ledger} = C1 = event(Position, C),
    C1#committed{ledger = Ledger#{Ref => {USR, Key, Position}}};
apply_op({move, Ref, Key}, #committed{ledger = Ledger} = C) ->
    case Ledger of
        #{Ref := {USR, _, Position}} -> C#committed{ledger = Ledger#{Ref := {USR, Key, Position}}};
        _ -> C
    end;
apply_op({down, Ref, Position, _}, C) ->
    #committed{ledger = Ledger} = C1 = event(Position, C),
    C1#committed{ledger = maps:remove(Ref, Ledger)};
apply_op({ack, Position}, C) ->
    acked(Position, C);
apply_op({next, Position}, #committed{next = Next, unseen = Unseen} = C) ->
    reached(Position, C#committed{unseen = Unseen + max(0, Position - Next)});
apply_op({stretches, Stretches}, C) ->
    C#committed{stretches = Stretches};
apply_op({unseen, Count}, C) ->
    C#committed{unseen = Count, begun = false}.

%% An event reveals the losses before it, unless it is the first of its run. Position 0: no event.
event(0, C) ->
    C;
event(Position, #committed{begun = true} = C) ->
    reached(Position + 1, C#committed{unseen = 0});
event(Position, #committed{begun = false, next = Next, unseen = Unseen} = C) ->
    reached(Position + 1, C#committed{unseen = Unseen + max(0, Position - Next), begun = true}).

reached(Position, #committed{next = Next} = C) ->
    C#committed{next = max(Position, Next)}.
