%% Items of the hooks while the adapter's process is away, and sessions that change meanwhile.
-module(event_pusher_inbox_tests).
-include_lib("eunit/include/eunit.hrl").

-define(NAME, {test, <<"localhost">>}).

keeps_items_aside_in_order_test() ->
    Inbox = event_pusher_inbox:open(?NAME, nobody_of_this_name),
    event_pusher_inbox:limit(2, Inbox),
    Seen = {unavailable, 1, self(), {<<"u">>, <<"h">>, <<"r">>}},
    ok = event_pusher_inbox:message(?NAME, fun() -> <<"one">> end),
    ok = event_pusher_inbox:put(?NAME, Seen),
    ok = event_pusher_inbox:message(?NAME, fun() -> <<"two">> end),
    ok = event_pusher_inbox:message(?NAME, fun() -> <<"beyond the maximum">> end),
    %% The next process, registered under the same name.
    Next = event_pusher_inbox:open(?NAME, nobody_of_this_name),
    ?assertEqual([<<"one">>, Seen, <<"two">>, dropped], event_pusher_inbox:take_aside(Next)),
    ?assertEqual(1, event_pusher_inbox:take_dropped(Next)),
    ?assertEqual(2, event_pusher_inbox:held(Next)),
    ?assertEqual([], event_pusher_inbox:take_aside(Next)),
    ok = event_pusher_inbox:delete(?NAME).

%% Each inbox gets its own items.
keeps_items_aside_for_each_inbox_test() ->
    [One, Two] = [event_pusher_inbox:open({test, Host}, Owner) || {Host, Owner} <- [{<<"a">>, nobody_a}, {<<"b">>, nobody_b}]],
    ok = event_pusher_inbox:put({test, <<"b">>}, b),
    ?assertEqual([], event_pusher_inbox:take_aside(One)),
    ?assertEqual([b], event_pusher_inbox:take_aside(Two)).

%% Sessions that began meanwhile did not exist before, those that ended did; a session's first item decides.
finds_the_sessions_before_some_items_test() ->
    [Stays, Came, Went, Resumed, Former, Both] = [{key, N} || N <- lists:seq(1, 6)],
    USR = fun({key, N}) -> {integer_to_binary(N), <<"h">>, <<"r">>} end,
    Aside = [{available, 1, Came, USR(Came)}, <<"a message">>, {unavailable, 2, Went, USR(Went)},
             {resumed, 3, Resumed, USR(Former)}, {handed_over, 4, Former, USR(Former)},
             {unavailable, 5, Both, USR(Both)}, {available, 6, Both, USR(Both)}, dropped],
    Now = maps:from_list([{Key, USR(Key)} || Key <- [Stays, Came, Resumed, Both]]),
    ?assertEqual(lists:sort([Stays, Went, Former, Both]), lists:sort(maps:keys(event_pusher_sessions:before(Aside, Now)))).
