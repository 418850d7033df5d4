%% Recurring failures are logged at most once a minute by default.
-module(event_pusher_log_tests).
-include_lib("eunit/include/eunit.hrl").

seldom_test() ->
    true = os:unsetenv("EVENT_PUSHER_LOG_MS"),
    #{disk := First} = Seen = event_pusher_log:seldom(disk, debug, "~ts", ["first"], #{}),
    Ago = fun(Ms) -> Seen#{disk := First - Ms} end,
    ?assertEqual(Ago(0), event_pusher_log:seldom(disk, debug, "~ts", ["again"], Ago(0))),
    ?assertEqual(Ago(50000), event_pusher_log:seldom(disk, debug, "~ts", ["again"], Ago(50000))),
    ?assertMatch(#{disk := Last} when Last >= First,
                 event_pusher_log:seldom(disk, debug, "~ts", ["a minute later"], Ago(60000))),
    ?assertMatch(#{disk := First, open := _}, event_pusher_log:seldom(open, debug, "~ts", ["of another kind"], Seen)).
