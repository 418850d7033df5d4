%% How the Erlang adapters interpret answers and URLs.
-module(event_pusher_delivery_tests).
-include_lib("eunit/include/eunit.hrl").

verdict(Status, Headers, Body) ->
    event_pusher_delivery:verdict({ok, Status, maps:from_list(Headers), Body}, 10).

verdict(Status, Body) ->
    verdict(Status, [], Body).

counts_of_an_answer_add_up_to_the_batch_test_() ->
    [?_assertEqual({accepted, 0}, verdict(200, <<"{\"accepted\":10,\"duplicates\":0,\"rejected\":[]}">>)),
     ?_assertEqual({accepted, 3}, verdict(200, <<" { \"duplicates\" : 3, \"accepted\" : 7, \"rejected\" : [] }">>)),
     ?_assertEqual({accepted, 1}, verdict(200, refusals(2, 1, [0, 1, 2, 5, 6, 8, 9], <<"\\\"index\\\":77,">>))),
     %% A list of refused events longer than the part that is read.
     ?_assertEqual({accepted, 1}, verdict(200, cut(refusals(2, 1, [0, 1, 2, 5, 6, 8, 9], binary:copy(<<"x">>, 30000)))))].

refusals(Accepted, Duplicates, Indexes, Reason) ->
    List = lists:join($,, [io_lib:format("{\"index\":~B,\"reason\":\"~s\"}", [Index, Reason]) || Index <- Indexes]),
    iolist_to_binary(io_lib:format("{\"accepted\":~B,\"duplicates\":~B,\"rejected\":[~s]}", [Accepted, Duplicates, List])).

cut(Body) ->
    binary:part(Body, 0, event_pusher_http:most_bytes()).

answers_of_other_servers_are_not_accepted_test_() ->
    [?_assertEqual(slow, verdict(200, Body))
     || Body <- [<<>>, <<"<html>It works!</html>">>, <<"null">>, <<"[]">>, <<"{}">>, <<"{\"accepted\":10}">>,
                 <<"{\"accepted\":\"10\",\"duplicates\":0}">>, <<"{\"accepted\":11,\"duplicates\":0}">>,
                 %% Counts that do not add up to the batch's ten.
                 refusals(9, 0, [], <<>>), refusals(0, 0, [], <<>>), refusals(9, 0, [3, 4], <<>>), refusals(10, 0, [3], <<>>),
                 refusals(9, 0, [10], <<>>), <<"{\"accepted\":9,\"duplicates\":0,\"rejected\":[\"a\"]}">>,
                 <<"{\"accepted\":-1,\"duplicates\":0}">>, <<"{\"accepted\":10,\"duplicates\":99999999999}">>,
                 <<"{\"rejected\":[{\"reason\":\"\\\"accepted\\\":1,\\\"duplicates\\\":1,\"}]}">>, <<255, 254, 0>>]].

only_the_daemon_calls_an_event_too_large_test_() ->
    Ours = <<"{\"error\":{\"code\":\"too_large\",\"message\":\"over 4 MiB\"}}">>,
    One = fun(Body) -> event_pusher_delivery:verdict({ok, 413, #{}, Body}, 1) end,
    [?_assertEqual(smaller, verdict(413, Ours)),
     ?_assertEqual(smaller, verdict(413, <<"<html>413 Request Entity Too Large</html>">>)),
     ?_assertEqual(too_large, One(Ours)),
     ?_assertEqual(slow, One(<<"<html>413 Request Entity Too Large</html>">>)),
     ?_assertEqual(slow, One(<<"{\"code\":\"too_large\"}">>))].

retry_after_is_limited_test_() ->
    [?_assertEqual({later, 7000}, verdict(503, [{<<"retry-after">>, <<"7">>}], <<>>)),
     ?_assertEqual({later, 600000}, verdict(503, [{<<"retry-after">>, <<"99999">>}], <<>>)),
     ?_assertEqual(backoff, verdict(503, [{<<"retry-after">>, <<"wed, 21 oct 2026 07:28:00 gmt">>}], <<>>)),
     ?_assertEqual(backoff, verdict(503, [{<<"retry-after">>, <<"-1">>}], <<>>)),
     ?_assertEqual(backoff, verdict(503, <<>>)),
     ?_assertEqual(backoff, verdict(502, <<>>)),
     ?_assertEqual(backoff, verdict(301, <<>>)),
     ?_assertEqual(slow, verdict(403, <<>>)),
     ?_assertEqual(slow, verdict(401, <<>>)),
     ?_assertEqual(slow, verdict(400, <<>>))].

parses_urls_test_() ->
    Parts = fun(Text) ->
                    #{scheme := Scheme, host := Host, port := Port, path := Path, authority := Authority} =
                        event_pusher_http:parse_url(Text),
                    {Scheme, Host, Port, lists:flatten(Path), lists:flatten(Authority)}
            end,
    [?_assertEqual({http, "tap", 5290, "/v1/events", "tap:5290"}, Parts(<<"http://tap:5290/v1/events">>)),
     ?_assertEqual({https, "tap", 443, "/?a=b", "tap:443"}, Parts(<<"HTTPS://tap?a=b">>)),
     ?_assertEqual({http, {192, 0, 2, 9}, 80, "/", "192.0.2.9:80"}, Parts(<<"http://192.0.2.9">>)),
     ?_assertEqual({http, {0, 0, 0, 0, 0, 0, 0, 1}, 81, "/x", "[::1]:81"}, Parts(<<"http://[::1]:81/x">>)),
     ?_assertEqual(error, event_pusher_http:parse_url(<<"ftp://tap">>)),
     ?_assertEqual(error, event_pusher_http:parse_url(<<"nonsense">>))].
