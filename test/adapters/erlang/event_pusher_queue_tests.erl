%% How the queue of the Erlang adapters handles incomplete, damaged and foreign files.
-module(event_pusher_queue_tests).
-include_lib("eunit/include/eunit.hrl").

-define(SOURCE, <<"test/localhost/node">>).

%% Runs a test in a folder of its own, without logging.
in_folder(Test) ->
    logger:set_primary_config(level, none),
    Dir = string:trim(os:cmd("mktemp -d")),
    try Test(Dir)
    after
        file:del_dir_r(Dir)
    end.

open(Dir) ->
    {ok, Queue} = event_pusher_queue:open(Dir, ?SOURCE, "test"),
    Queue.

%% Writes one event in a group of its own.
write(Body, Queue) ->
    Position = event_pusher_queue:next(Queue),
    {ok, Queue1} = event_pusher_queue:append([{event, Position, Body}], Queue),
    Queue1.

write_all(Bodies, Queue) ->
    lists:foldl(fun write/2, Queue, Bodies).

%% Everything that can be sent, as {Epoch, First, Bodies} for each batch.
drain(Queue) ->
    case event_pusher_queue:batch(1000, Queue) of
        {none, _} -> [];
        {ok, #{epoch := Epoch, first_seq := First, events := Bodies} = Batch, Queue1} ->
            [{Epoch, First, Bodies} | drain(event_pusher_queue:taken(Batch, Queue1))]
    end.

left(Dir) ->
    lists:append([Bodies || {_, _, Bodies} <- drain(open(Dir))]).

segments(Dir) ->
    lists:sort(filelib:wildcard(filename:join(Dir, "*.seg"))).

%% The offset of each group in a file.
offsets(Bytes, Offset) when Offset >= byte_size(Bytes) ->
    [];
offsets(Bytes, Offset) ->
    <<_:Offset/binary, Size:32, _/binary>> = Bytes,
    [Offset | offsets(Bytes, Offset + 8 + Size)].

%% A file as a run leaves it: its head, and a group for each body.
file_with(Dir, Bodies) ->
    ok = event_pusher_queue:close(write_all(Bodies, open(Dir))),
    [Path] = segments(Dir),
    {ok, Bytes} = file:read_file(Path),
    {Path, Bytes}.

returns_events_in_order_test() ->
    in_folder(fun(Dir) ->
        Queue = write_all([<<"a">>, <<"b">>, <<"c">>], open(Dir)),
        ?assertMatch([{_, 1, [<<"a">>, <<"b">>, <<"c">>]}], drain(Queue))
    end).

each_run_has_its_own_epoch_test() ->
    in_folder(fun(Dir) ->
        ok = event_pusher_queue:close(write_all([<<"a">>, <<"b">>], open(Dir))),
        ok = event_pusher_queue:close(write_all([<<"c">>], open(Dir))),
        Queue = write_all([<<"d">>], open(Dir)),
        ?assertMatch([{A, 1, [<<"a">>, <<"b">>]}, {B, 1, [<<"c">>]}, {C, 1, [<<"d">>]}]
                       when A =/= B andalso B =/= C andalso A =/= C, drain(Queue))
    end).

does_not_return_delivered_events_test() ->
    in_folder(fun(Dir) ->
        {ok, #{last := Last} = Batch, Queue} = event_pusher_queue:batch(2, write_all([<<"a">>, <<"b">>, <<"c">>], open(Dir))),
        {ok, Queue1} = event_pusher_queue:append([{ack, Last}], event_pusher_queue:taken(Batch, Queue)),
        ok = event_pusher_queue:close(Queue1),
        Again = open(Dir),
        ?assertEqual(1, event_pusher_queue:undelivered(Again)),
        ?assertMatch([{_, 3, [<<"c">>]}], drain(Again))
    end).

a_copied_folder_uses_no_number_twice_test() ->
    in_folder(fun(Dir) ->
        Copy = Dir ++ "/copy",
        ok = event_pusher_queue:close(write_all([<<"a">>], open(Dir ++ "/queue"))),
        os:cmd("cp -r " ++ Dir ++ "/queue " ++ Copy),
        Sent = [{Epoch, First} || {Epoch, First, [<<"b">>]} <- drain(write(<<"b">>, open(Dir ++ "/queue")))],
        SentAgain = [{Epoch, First} || {Epoch, First, [<<"c">>]} <- drain(write(<<"c">>, open(Copy)))],
        ?assertEqual(1, length(Sent)),
        ?assertEqual(1, length(SentAgain)),
        ?assertNotEqual(Sent, SentAgain)
    end).

ignores_an_incomplete_last_group_test() ->
    in_folder(fun(Dir) ->
        {Path, Bytes} = file_with(Dir, [<<"a">>, <<"b">>, <<"last">>]),
        Last = lists:last(offsets(Bytes, 0)),
        [begin
             clear(Dir),
             ok = file:write_file(Path, binary:part(Bytes, 0, Length)),
             ?assertEqual({Length, [<<"a">>, <<"b">>]}, {Length, left(Dir)})
         end || Length <- lists:seq(Last, byte_size(Bytes) - 1)]
    end).

clear(Dir) ->
    [ok = file:delete(Path) || Path <- filelib:wildcard(filename:join(Dir, "*"))].

ignores_a_segment_with_an_incomplete_head_test() ->
    in_folder(fun(Dir) ->
        {_, Bytes} = file_with(Dir, [<<"a">>]),
        Next = event_pusher_segment:path(Dir, 2),
        [begin
             ok = file:write_file(Next, binary:part(Bytes, 0, Length)),
             ?assertEqual([<<"a">>], left_in_copy(Dir))
         end || Length <- lists:seq(0, 40)]
    end).

left_in_copy(Dir) ->
    in_folder(fun(Copy) ->
        os:cmd("cp -r " ++ Dir ++ "/. " ++ Copy),
        left(Copy)
    end).

ignores_zeros_at_the_end_test() ->
    in_folder(fun(Dir) ->
        {Path, Bytes} = file_with(Dir, [<<"a">>]),
        ok = file:write_file(Path, [Bytes, binary:copy(<<0>>, 5000)]),
        ?assertEqual([<<"a">>], left(Dir))
    end).

%% Damages each byte in turn: only its group is lost, and the numbers stay the same.
damage_loses_only_its_group_test_() ->
    {timeout, 120, fun() ->
        in_folder(fun(Dir) ->
            {Path, Bytes} = file_with(Dir, [<<"one">>, <<"two">>, <<"three">>]),
            [_ | Groups] = offsets(Bytes, 0),
            [begin
                 <<Before:At/binary, Byte, After/binary>> = Bytes,
                 ok = file:write_file(Path, <<Before/binary, (Byte bxor 16#55), After/binary>>),
                 Lost = length([G || G <- Groups, G =< At]),
                 Expected = case Lost of
                                0 -> [<<"one">>, <<"two">>, <<"three">>];
                                N -> lists:delete(lists:nth(N, [<<"one">>, <<"two">>, <<"three">>]),
                                                  [<<"one">>, <<"two">>, <<"three">>])
                            end,
                 ?assertEqual({At, Expected}, {At, left_in_copy(Dir)})
             end || At <- lists:seq(0, byte_size(Bytes) - 1, 7)]
        end)
    end}.

damage_leaves_a_hole_in_the_numbers_test() ->
    in_folder(fun(Dir) ->
        {Path, Bytes} = file_with(Dir, [<<"one">>, <<"two">>, <<"three">>]),
        {At, _} = binary:match(Bytes, <<"two">>),
        <<Before:At/binary, _, After/binary>> = Bytes,
        ok = file:write_file(Path, <<Before/binary, $T, After/binary>>),
        ?assertMatch([{Epoch, 1, [<<"one">>]}, {Epoch, 3, [<<"three">>]}], drain(open(Dir))),
        ?assertEqual(["0000000001.damaged"], [Name || Name <- names(Dir), filename:extension(Name) =:= ".damaged"])
    end).

names(Dir) ->
    {ok, Names} = file:list_dir(Dir),
    lists:sort(Names).

%% The queue must not trust a size of 4 GB.
does_not_trust_a_damaged_size_test() ->
    in_folder(fun(Dir) ->
        {Path, Bytes} = file_with(Dir, [<<"one">>, <<"two">>]),
        At = lists:nth(2, offsets(Bytes, 0)),
        <<Before:At/binary, _:4/binary, After/binary>> = Bytes,
        ok = file:write_file(Path, <<Before/binary, 255, 255, 255, 255, After/binary>>),
        ?assertEqual([<<"two">>], left(Dir))
    end).

ignores_foreign_files_test() ->
    in_folder(fun(Dir) ->
        {_, Bytes} = file_with(Dir, [<<"a">>]),
        Strangers = ["backup.seg", "1.seg", "0000000003.seg.bak", "x", "00000000001.seg"],
        [ok = file:write_file(filename:join(Dir, Name), Bytes) || Name <- Strangers],
        ok = file:make_dir(filename:join(Dir, "0000000002.seg")),
        ?assertEqual([<<"a">>], left(Dir)),
        ?assertEqual([], ["0000000002.seg" | Strangers] -- names(Dir))
    end).

ignores_foreign_content_test() ->
    Foreign = [crypto:strong_rand_bytes(3000), <<"just text, and not a queue">>, <<255, 255, 255, 255, "text of any length">>,
               iolist_to_binary(event_pusher_segment:group([{head, 99, something, <<"new">>}])),
               iolist_to_binary(event_pusher_segment:group([unknown])),
               <<8:32, (erlang:crc32(<<"no terms">>)):32, "no terms">>],
    [in_folder(fun(Dir) ->
         _ = file_with(Dir, [<<"a">>]),
         ok = file:write_file(event_pusher_segment:path(Dir, 2), Bytes),
         ok = event_pusher_queue:close(write(<<"b">>, open(Dir))),
         ?assertEqual([<<"a">>, <<"b">>], left(Dir)),
         ?assertMatch([_], [Name || Name <- names(Dir), string:prefix(Name, "0000000002.") =/= nomatch])
     end) || Bytes <- Foreign].

ignores_meaningless_files_test() ->
    [in_folder(fun(Dir) ->
         _ = file_with(Dir, [<<"a">>]),
         ok = file:write_file(event_pusher_segment:path(Dir, 2), Bytes),
         ok = event_pusher_queue:close(write(<<"b">>, open(Dir))),
         ?assertEqual([<<"a">>, <<"b">>], left(Dir))
     end) || Bytes <- [<<>>, <<"x">>, binary:copy(<<131, 108>>, 500)]].

survives_an_invalid_only_file_test() ->
    in_folder(fun(Dir) ->
        ok = file:write_file(event_pusher_segment:path(Dir, 1), <<"just text, and not a queue">>),
        ?assertMatch([{_, 1, [<<"a">>]}], drain(write(<<"a">>, open(Dir))))
    end).

survives_a_damaged_head_test() ->
    in_folder(fun(Dir) ->
        {Path, Bytes} = file_with(Dir, [<<"a">>, <<"b">>]),
        <<_:4/binary, Rest/binary>> = Bytes,
        ok = file:write_file(Path, <<1, 1, 1, 1, Rest/binary>>),
        ?assertMatch([{_, 1, [<<"a">>, <<"b">>]}], drain(open(Dir)))
    end).

%% One epoch for all runs; each event's number is its position.
reads_a_queue_of_version_0_1_0_test() ->
    in_folder(fun(Dir) ->
        Ref = {node(), <<"run">>, 1},
        Groups = [[{head, 1, <<"old">>, <<"e">>, 5, 4, [{Ref, {{<<"u">>, <<"h">>, <<"r">>}, self(), 2}}]}],
                  [{event, 5, <<"x">>}, {events, {6, <<1:32, 1:32>>, <<"y,z">>}}, {next, 8}]],
        ok = file:write_file(event_pusher_segment:path(Dir, 1), [event_pusher_segment:group(Ops) || Ops <- Groups]),
        Queue = open(Dir),
        ?assertEqual([Ref], maps:keys(event_pusher_queue:ledger(Queue))),
        ?assertMatch([{<<"e">>, 5, [<<"x">>, <<"y">>, <<"z">>]}, {New, 1, [<<"n">>]}] when New =/= <<"e">>,
                     drain(write(<<"n">>, Queue)))
    end).

keeps_a_file_of_a_later_version_test() ->
    in_folder(fun(Dir) ->
        ok = event_pusher_queue:close(write(<<"a">>, open(Dir))),
        Path = event_pusher_segment:path(Dir, 2),
        Later = iolist_to_binary([event_pusher_segment:group(Ops) || Ops <- [[{head, 3, new}], [{event, 9, <<"later">>}]]]),
        ok = file:write_file(Path, Later),
        Queue = write(<<"b">>, open(Dir)),
        ?assertMatch([{_, _, [<<"a">>]}, {_, _, [<<"b">>]}], drain(Queue)),
        ok = event_pusher_queue:close(Queue),
        ?assertEqual({ok, Later}, file:read_file(Path))
    end).

returns_renumbered_events_once_under_a_new_epoch_test() ->
    in_folder(fun(Dir) ->
        Queue = write_all([<<"a">>, <<"b">>, <<"c">>, <<"d">>], open(Dir)),
        {ok, #{epoch := Epoch, known := 0} = Batch, Queue1} = event_pusher_queue:batch(3, Queue),
        %% The daemon knew a and b, and accepted c.
        {ok, 1, Queue2} = event_pusher_queue:renumber(Batch, 2, Queue1),
        Expected = [<<"a">>, <<"b">>, <<"d">>],
        Sent = drain(Queue2),
        ?assertEqual(Expected, lists:append([Bodies || {_, _, Bodies} <- Sent])),
        ?assertMatch([{New, 1, _}, {New, 3, _}] when New =/= Epoch, Sent),
        %% The same after a kill.
        Again = open(Dir),
        ?assertEqual(3, event_pusher_queue:undelivered(Again)),
        ?assertEqual(Sent, drain(Again))
    end).

knows_how_many_events_may_have_been_sent_test() ->
    in_folder(fun(Dir) ->
        {ok, #{known := 0}, Queue} = event_pusher_queue:batch(1, write_all([<<"a">>, <<"b">>], open(Dir))),
        {ok, #{known := 1, count := 2} = Batch, Queue1} = event_pusher_queue:batch(2, Queue),
        {ok, #{known := 1}, _} = event_pusher_queue:batch(2, event_pusher_queue:unsent(Batch, Queue1)),
        %% Any event of an earlier run may have been sent.
        {ok, #{known := 2}, _} = event_pusher_queue:batch(2, open(Dir))
    end).

%% Uses up positions, as lost events do.
lose(Count, Queue) ->
    {ok, Queue1} = event_pusher_queue:append([{next, event_pusher_queue:next(Queue) + Count}], Queue),
    Queue1.

a_loss_at_the_end_of_a_run_leaves_a_hole_test() ->
    in_folder(fun(Dir) ->
        ok = event_pusher_queue:close(lose(7, write(<<"a">>, open(Dir)))),
        Queue = write_all([<<"b">>, <<"c">>, <<"d">>], open(Dir)),
        ?assertMatch([{A, 1, [<<"a">>]}, {B, 1, [<<"b">>]}, {B, 9, [<<"c">>, <<"d">>]}] when A =/= B, drain(Queue)),
        ok = event_pusher_queue:close(Queue),
        ?assertMatch({_, 1, [<<"e">>, <<"f">>]}, lists:last(drain(write_all([<<"e">>, <<"f">>], open(Dir)))))
    end).

a_loss_after_delivered_events_leaves_a_hole_test() ->
    in_folder(fun(Dir) ->
        {ok, #{last := Last} = Batch, Queue} = event_pusher_queue:batch(1, lose(7, write(<<"a">>, open(Dir)))),
        {ok, Queue1} = event_pusher_queue:append([{ack, Last}], event_pusher_queue:taken(Batch, Queue)),
        ok = event_pusher_queue:close(Queue1),
        %% A run without an event.
        ok = event_pusher_queue:close(open(Dir)),
        ?assertMatch([{B, 1, [<<"b">>]}, {B, 9, [<<"c">>]}], drain(write_all([<<"b">>, <<"c">>], open(Dir))))
    end).

a_loss_before_the_first_event_leaves_a_hole_test() ->
    in_folder(fun(Dir) ->
        ok = event_pusher_queue:close(lose(2, write(<<"a">>, open(Dir)))),
        ok = event_pusher_queue:close(lose(3, open(Dir))),
        Queue = lose(4, open(Dir)),
        Position = event_pusher_queue:next(Queue) + 5,
        {ok, Queue1} = event_pusher_queue:append([{event, Position, <<"b">>}, {event, Position + 1, <<"c">>}], Queue),
        ?assertMatch([_, {B, 1, [<<"b">>]}, {B, 16, [<<"c">>]}], drain(Queue1))
    end).

%% The daemon has only the first event; the loss before it shows after the second one.
a_run_with_one_event_leaves_a_hole_test() ->
    in_folder(fun(Dir) ->
        ok = event_pusher_queue:close(lose(7, write(<<"a">>, open(Dir)))),
        ok = event_pusher_queue:close(lose(1, write(<<"b">>, open(Dir)))),
        ?assertMatch([{_, 1, [<<"a">>]}, {_, 1, [<<"b">>]}, {C, 1, [<<"c">>]}, {C, 10, [<<"d">>]}],
                     drain(write_all([<<"c">>, <<"d">>], open(Dir))))
    end).

a_loss_between_two_events_leaves_a_hole_test() ->
    in_folder(fun(Dir) ->
        ok = event_pusher_queue:close(write(<<"b">>, lose(7, write(<<"a">>, open(Dir))))),
        ?assertMatch([{A, 1, [<<"a">>]}, {A, 9, [<<"b">>]}, {_, 1, [<<"c">>, <<"d">>]}],
                     drain(write_all([<<"c">>, <<"d">>], open(Dir))))
    end).

a_loss_before_a_new_segment_leaves_a_hole_test() ->
    in_folder(fun(Dir) ->
        {ok, #{last := Last} = Batch, Queue} = event_pusher_queue:batch(1, lose(7, write(<<"a">>, open(Dir)))),
        {ok, Queue1} = event_pusher_queue:append([{move, no_session, binary:copy(<<"x">>, 9000000)}], Queue),
        {ok, Queue2} = event_pusher_queue:append([{ack, Last}], event_pusher_queue:taken(Batch, Queue1)),
        ?assertEqual(["0000000002.seg"], names(Dir)),
        ok = event_pusher_queue:close(Queue2),
        ?assertMatch([{B, 1, [<<"b">>]}, {B, 9, [<<"c">>]}], drain(write_all([<<"b">>, <<"c">>], open(Dir))))
    end).

%% The daemon takes an event or, where the body is `lost`, refuses it.
send(Count, Queue) ->
    lists:foldl(fun(_, Queue1) ->
                        {ok, #{events := [Body]} = Batch, Queue2} = event_pusher_queue:batch(1, Queue1),
                        case Body of
                            <<"lost">> ->
                                {ok, Queue3} = event_pusher_queue:lost(Batch, Queue2),
                                Queue3;
                            _ -> event_pusher_queue:taken(Batch, Queue2)
                        end
                end, Queue, lists:seq(1, Count)).

reopen(Dir, Queue) ->
    {ok, Queue1} = event_pusher_queue:append([{ack, event_pusher_queue:acked(Queue)}], Queue),
    ok = event_pusher_queue:close(Queue1),
    open(Dir).

a_refused_event_between_others_leaves_a_hole_test() ->
    in_folder(fun(Dir) ->
        Queue = send(2, write_all([<<"a">>, <<"lost">>, <<"b">>], open(Dir))),
        ?assertMatch([{_, 3, [<<"b">>, <<"c">>]}], drain(write(<<"c">>, Queue)))
    end).

a_refused_last_event_leaves_a_hole_test_() ->
    [fun() ->
             in_folder(fun(Dir) ->
                 Queue = Then(Dir, send(2, write_all([<<"a">>, <<"lost">>], open(Dir)))),
                 ?assertMatch([{_, 1, [<<"b">>]}, {_, 3, [<<"c">>]}], drain(write_all([<<"b">>, <<"c">>], Queue)))
             end)
     end || Then <- [fun(_, Queue) -> Queue end, fun reopen/2]].

refused_first_events_leave_a_hole_test() ->
    in_folder(fun(Dir) ->
        Queue = send(2, write_all([<<"lost">>, <<"lost">>, <<"a">>], open(Dir))),
        ?assertMatch([{A, 3, [<<"a">>]}, {B, 1, [<<"b">>]}, {B, 4, [<<"c">>]}] when A =/= B,
                     drain(write_all([<<"b">>, <<"c">>], Queue)))
    end).

refused_last_events_leave_a_hole_test() ->
    in_folder(fun(Dir) ->
        Queue = send(3, write_all([<<"a">>, <<"lost">>, <<"lost">>], open(Dir))),
        ?assertMatch([{_, 1, [<<"b">>]}, {_, 4, [<<"c">>]}], drain(write_all([<<"b">>, <<"c">>], Queue)))
    end).

refused_single_events_leave_a_hole_test() ->
    in_folder(fun(Dir) ->
        Lose = fun(Queue) -> send(1, write(<<"lost">>, Queue)) end,
        Queue = Lose(reopen(Dir, Lose(Lose(open(Dir))))),
        ?assertMatch([{_, 1, [<<"a">>]}, {_, 5, [<<"b">>]}], drain(write_all([<<"a">>, <<"b">>], Queue)))
    end).

%% The loss at the end of the run before is left out behind it.
a_refused_first_event_keeps_the_hole_behind_it_test() ->
    in_folder(fun(Dir) ->
        ok = event_pusher_queue:close(lose(7, write(<<"a">>, open(Dir)))),
        Queue = send(2, write_all([<<"lost">>, <<"b">>], open(Dir))),
        ?assertMatch([{B, 9, [<<"b">>]}, {C, 1, [<<"c">>]}, {C, 10, [<<"d">>]}] when B =/= C,
                     drain(write_all([<<"c">>, <<"d">>], Queue)))
    end).

%% As large as the ledger of hundreds of thousands of sessions.
keeps_a_long_ledger_test() ->
    in_folder(fun(Dir) ->
        USR = {<<"alice">>, <<"localhost">>, binary:copy(<<"x">>, 17000000)},
        {ok, Queue} = event_pusher_queue:append([{up, session, USR, key, 0, none}], open(Dir)),
        ok = event_pusher_queue:close(Queue),
        ok = event_pusher_queue:close(write_all([<<"a">>, <<"b">>], open(Dir))),
        Again = open(Dir),
        ?assertEqual(#{session => {USR, key, 0}}, event_pusher_queue:ledger(Again)),
        ?assertMatch([{_, 1, [<<"a">>, <<"b">>]}], drain(Again))
    end).

deletes_delivered_segments_test() ->
    in_folder(fun(Dir) ->
        Body = binary:copy(<<"x">>, 1000000),
        Queue = write_all(lists:duplicate(20, Body), open(Dir)),
        ?assert(length(segments(Dir)) > 2),
        ?assertEqual(20, length(lists:append([Bodies || {_, _, Bodies} <- drain(Queue)]))),
        ?assertEqual(1, length(segments(Dir)))
    end).
