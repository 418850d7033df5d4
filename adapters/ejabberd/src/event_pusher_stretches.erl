%%% The source, epoch and number under which positions of the queue are sent: a list of stretches, each valid until the
%%% next one begins.
-module(event_pusher_stretches).

-export([run/3, leave_out/3, left_out/2, is_followed/3, renumber/5, cover/4, at/2, needed/2, sendable/3]).
-export_type([stretches/0]).

-type position() :: event_pusher_segment:position().
%% The number is Position - Base. `skip`: not to be sent.
-type stretch() :: {From :: position(), Source :: binary(), Epoch :: binary(), Base :: integer()}
                 | {From :: position(), skip}.
-type stretches() :: [stretch()].

%% Begins a new epoch at this position, numbered from 1.
-spec run(position(), binary(), stretches()) -> stretches().
run(From, Source, Stretches) ->
    begin_at({From, Source, new_epoch(), From - 1}, Stretches).

%% Skips `Count` numbers of the last epoch after this position, which holds the epoch's first event.
-spec leave_out(position(), pos_integer(), stretches()) -> stretches().
leave_out(First, Count, Stretches) ->
    {_, Source, Epoch, _} = lists:last(Stretches),
    begin_at({First + 1, Source, Epoch, First - 1 - Count}, begin_at({First, Source, Epoch, First - 1}, Stretches)).

%% How many numbers are skipped after this position.
-spec left_out(position(), stretches()) -> non_neg_integer().
left_out(Position, Stretches) ->
    case {at(Position, Stretches), at(Position + 1, Stretches)} of
        {{{_, _, Epoch, Base}, _}, {{_, _, Epoch, Next}, _}} -> Base - Next;
        _ -> 0
    end.

%% Whether the next position is before `End` and of the same epoch.
-spec is_followed(position(), End :: position(), stretches()) -> boolean().
is_followed(Position, End, Stretches) ->
    case {at(Position, Stretches), at(Position + 1, Stretches)} of
        {{{_, _, Epoch, _}, _}, {{_, _, Epoch, _}, _}} -> Position + 1 < End;
        _ -> false
    end.

%% Begins a new epoch for the positions `From` to `To` and those after `Last`. Those between are not sent again.
-spec renumber(position(), position(), position(), binary(), stretches()) -> stretches().
renumber(From, To, Last, Source, Stretches) ->
    Epoch = new_epoch(),
    Renumbered = begin_at({From, Source, Epoch, From - 1}, Stretches),
    case To < Last of
        true -> Renumbered ++ [{To + 1, skip}, {Last + 1, Source, Epoch, From - 1 + Last - To}];
        false -> Renumbered
    end.

%% Gives an epoch of its own to positions without a stretch, because the head of their file is damaged.
-spec cover(position(), position(), binary(), stretches()) -> stretches().
cover(First, _, _, [Stretch | _] = Stretches) when element(1, Stretch) =< First -> Stretches;
cover(Next, Next, _, []) -> [];
cover(_, _, Source, Stretches) -> [{1, Source, new_epoch(), 0} | Stretches].

begin_at(New, Stretches) ->
    [Stretch || Stretch <- Stretches, element(1, Stretch) < element(1, New)] ++ [New].

new_epoch() ->
    <<N:64>> = crypto:strong_rand_bytes(8),
    iolist_to_binary(io_lib:format("~16.16.0b", [N])).

%% The stretch of a position, and where the next one begins.
-spec at(position(), stretches()) -> {stretch(), position() | infinity}.
at(Position, [_, Next | Stretches]) when Position >= element(1, Next) -> at(Position, [Next | Stretches]);
at(_, [Stretch, Next | _]) -> {Stretch, element(1, Next)};
at(_, [Stretch]) -> {Stretch, infinity}.

%% Without stretches that lie entirely before a position.
-spec needed(position(), stretches()) -> stretches().
needed(Position, [_, Next | Stretches]) when Position >= element(1, Next) -> needed(Position, [Next | Stretches]);
needed(_, Stretches) -> Stretches.

%% How many of these positions are to be sent.
-spec sendable(position(), non_neg_integer(), stretches()) -> non_neg_integer().
sendable(First, Last, _) when First > Last ->
    0;
sendable(First, Last, Stretches) ->
    {Stretch, Next} = at(First, Stretches),
    %% `infinity`, an atom, is greater than any number.
    Until = min(Last + 1, Next),
    Here = case Stretch of
               {_, skip} -> 0;
               _ -> Until - First
           end,
    Here + sendable(Until, Last, Stretches).
