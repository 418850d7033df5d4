%%% Items waiting to be committed, and their deadline. At the deadline the owner gets the message `flush`.
%%%
%%% Invariants:
%%%  - No event waits longer than 50 ms after it was taken from the inbox.
%%%  - There is at most one timer. The owner disarms it while it waits for something else, and rearms it afterwards.
-module(event_pusher_gathering).

-export([new/0, looking/1, add/2, acknowledge/2, flush_at/2, take/1, disarm/1, rearm/1, is_urgent/1, is_empty/1]).
-export_type([gathering/0]).

-record(gathering, {%% The newest first; and whether there is anything but acknowledgements.
                    items = [] :: [event_pusher_changes:item()],
                    urgent = false :: boolean(),
                    %% When the inbox was last emptied.
                    taken :: integer(),
                    timer = none :: none | {reference(), integer()}}).

-opaque gathering() :: #gathering{}.

%% How long events gather at most before they are committed together.
-define(GROUP_MS, 50).
%% Losing an acknowledgement only causes duplicates, so it waits for other operations.
-define(ACK_MS, 200).

-spec new() -> gathering().
new() ->
    #gathering{taken = now_ms()}.

%% Call before emptying the inbox: items added afterwards count as waiting from now on.
-spec looking(gathering()) -> gathering().
looking(G) ->
    G#gathering{taken = now_ms()}.

-spec add([event_pusher_changes:item()], gathering()) -> gathering().
add([], G) ->
    G;
add(New, #gathering{items = Items, taken = Taken} = G) ->
    flush_at(Taken + ?GROUP_MS, G#gathering{items = lists:reverse(New, Items), urgent = true}).

%% The daemon has all events up to this position.
-spec acknowledge(event_pusher_segment:position(), gathering()) -> gathering().
acknowledge(Position, #gathering{items = Items} = G) ->
    flush_at(now_ms() + ?ACK_MS, G#gathering{items = [{ack, Position} | Items]}).

%% Sets the deadline (of erlang:monotonic_time), if it is earlier than the present one.
-spec flush_at(integer(), gathering()) -> gathering().
flush_at(At, #gathering{timer = none} = G) ->
    G#gathering{timer = {erlang:send_after(At, self(), flush, [{abs, true}]), At}};
flush_at(At, #gathering{timer = {_, Later}} = G) when At < Later ->
    flush_at(At, disarm(G));
flush_at(_, G) ->
    G.

%% Returns all items in order and clears them.
-spec take(gathering()) -> {[event_pusher_changes:item()], gathering()}.
take(#gathering{items = Items} = G) ->
    {lists:reverse(Items), (disarm(G))#gathering{items = [], urgent = false}}.

-spec disarm(gathering()) -> gathering().
disarm(#gathering{timer = none} = G) ->
    G;
disarm(#gathering{timer = {Timer, _}} = G) ->
    _ = erlang:cancel_timer(Timer),
    G#gathering{timer = none}.

%% Restarts the timer for items that gathered while it was disarmed.
-spec rearm(gathering()) -> gathering().
rearm(#gathering{urgent = true, timer = none} = G) -> flush_at(now_ms() + ?GROUP_MS, G);
rearm(G) -> G.

-spec is_urgent(gathering()) -> boolean().
is_urgent(#gathering{urgent = Urgent}) -> Urgent.

-spec is_empty(gathering()) -> boolean().
is_empty(#gathering{items = Items}) -> Items =:= [].

now_ms() ->
    erlang:monotonic_time(millisecond).
