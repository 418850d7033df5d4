%% The numbers of changes, and what they become.
-module(event_pusher_changes_tests).
-include_lib("eunit/include/eunit.hrl").

-define(NAME, {changes, <<"localhost">>}).
-define(USR, {<<"ann">>, <<"localhost">>, <<"phone">>}).

%% A node died with a session whose online event had position 7; when it returns, another node has reported the end.
ends_a_dead_session_only_if_the_daemon_may_hear_of_it_later_test() ->
    Inbox = event_pusher_inbox:open(?NAME, nobody_of_this_name),
    event_pusher_inbox:limit(10, Inbox),
    Number = fun(Acked) ->
                     Context = #{next => 9, acked_before => Acked, dropped => 0, inbox => Inbox,
                                 jid_text => fun({U, H, R}) -> <<U/binary, $@, H/binary, $/, R/binary>> end},
                     {[{down, ref, Position, Json}], _} =
                         event_pusher_changes:number([{dead, 1, ref, ?USR, 7}], [{gone, 0}], Context),
                     {Position, Json}
             end,
    %% The daemon had the online event: the other node's report came after it.
    ?assertEqual({0, none}, Number(7)),
    %% It had not, so the online event is delivered after that report, perhaps already.
    {9, Json} = Number(6),
    ?assertMatch({_, _}, binary:match(Json, <<"\"present\":false,\"sessions\":0">>)),
    ok = event_pusher_inbox:delete(?NAME).
