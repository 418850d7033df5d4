%%% The adapter's log lines. Recurring failures are logged at most once a minute.
-module(event_pusher_log).

-export([log/3, seldom/5, recovered/4]).
-export_type([seen/0]).

%% When a line of each kind was last written.
-type seen() :: #{atom() => integer()}.

-define(EVERY_MS, 60000).

-spec log(logger:level(), io:format(), [term()]) -> ok.
log(Level, Format, Args) ->
    logger:log(Level, "mod_event_pusher " ++ Format, Args).

%% Writes the line unless one of its kind was written within the last minute.
-spec seldom(atom(), logger:level(), io:format(), [term()], seen()) -> seen().
seldom(Kind, Level, Format, Args, Seen) ->
    Now = erlang:monotonic_time(millisecond),
    Recent = case Seen of
                 #{Kind := Last} -> Now - Last < every_ms();
                 _ -> false
             end,
    case Recent of
        true -> Seen;
        false ->
            log(Level, Format, Args),
            Seen#{Kind => Now}
    end.

%% Tests shorten it in the environment of the virtual machine.
every_ms() ->
    case os:getenv("EVENT_PUSHER_LOG_MS") of
        false -> ?EVERY_MS;
        Text -> list_to_integer(Text)
    end.

%% Logs that the failure of this kind is over, if there was one.
-spec recovered(atom(), io:format(), [term()], seen()) -> seen().
recovered(Kind, Format, Args, Seen) when is_map_key(Kind, Seen) ->
    log(notice, Format, Args),
    maps:remove(Kind, Seen);
recovered(_, _, _, Seen) ->
    Seen.
