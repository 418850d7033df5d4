%%% Delivers batches to the daemon by the tap protocol (docs/tap-protocol.md), one at a time.
%%%
%%% Invariants:
%%%  - At most one batch is being sent. One pure function, `verdict`, decides its outcome.
%%%  - Only the daemon's own answer removes events, and only its own `too_large` removes one that it did not accept. No
%%%    other answer loses anything.
%%%  - Each failure is logged once when it begins and once when it ends.
%%%
%%% States: idle (`may_send` says when to send), sending, paused after a failure. The owner passes every message that it
%%% does not know to `handle`.
-module(event_pusher_delivery).

-export([new/2, configure/2, may_send/2, is_sending/1, in_trouble/1, report/1, post/2, handle/2, resume/1, pause/2, stop/1]).
-export([verdict/2]).
-export_type([delivery/0, options/0, outcome/0]).

-type options() :: #{url := binary(), secret := binary(), timeout := pos_integer(), slow_retry := pos_integer(),
                     _ => _}.
-type outcome() :: taken                             % the daemon has the batch
                 | {duplicates, pos_integer()}       % it has, but its first ones count as duplicates wrongly
                 | again                             % retry at once with a smaller batch
                 | {lost, Reason :: io_lib:chars()}  % its only event can't be delivered
                 | failed                            % pausing; the daemon may or may not have the batch
                 | unsent                            % pausing; nothing of the batch was sent
                 | ready.                            % the pause is over
-type verdict() :: {accepted, Duplicates :: non_neg_integer()} | too_large | smaller | slow
                 | {later, non_neg_integer()} | backoff.

-record(delivery, {label :: unicode:chardata(),
                   tls :: fun(() -> [ssl:tls_client_option()]),
                   url = none :: event_pusher_http:url() | none,
                   shown = <<>> :: binary(),
                   headers = [] :: iodata(),
                   timeout = 15000 :: pos_integer(),
                   slow_retry = 30000 :: pos_integer(),
                   client = none :: pid() | none,
                   sending = none :: none | {reference(), event_pusher_queue:batch(), reference()},
                   paused = none :: none | reference(),
                   not_before :: integer(),
                   limit :: pos_integer(),
                   backoff :: pos_integer(),
                   %% The current failure, as a term and as text.
                 trouble = none :: none | {term(), unicode:chardata()},
                 %% When the daemon last took a batch, in milliseconds since 1970.
                 contact = none :: none | integer()}).

-opaque delivery() :: #delivery{}.

%% The most that the protocol allows, because the cost is per batch.
-define(BATCH_EVENTS, 1000).
%% After a large batch the next one gathers longer: PACE_MS for each event of the last batch, at most MAX_PACE_MS. A
%% single event delays nothing.
-define(PACE_MS, 2).
-define(MAX_PACE_MS, 100).
-define(BACKOFF_MIN_MS, 250).
-define(BACKOFF_MAX_MS, 5000).
%% On top of the client's own timeouts.
-define(GRACE_MS, 10000).

%% `Label` begins the log lines; `Tls` returns the options for verifying the server.
-spec new(unicode:chardata(), fun(() -> [ssl:tls_client_option()])) -> delivery().
new(Label, Tls) ->
    #delivery{label = Label, tls = Tls, not_before = now_ms(), limit = ?BATCH_EVENTS, backoff = ?BACKOFF_MIN_MS}.

%% Applies new options, from the next batch on.
-spec configure(options(), delivery()) -> delivery().
configure(#{url := Url, secret := Secret, timeout := Timeout, slow_retry := Slow}, D) ->
    Parsed = case event_pusher_http:parse_url(Url) of
                 error -> none;
                 Good -> Good
             end,
    D#delivery{url = Parsed, shown = Url, timeout = Timeout, slow_retry = Slow,
               headers = [[<<"Authorization: Bearer ">>, Secret, <<"\r\n">>] || Secret =/= <<>>]}.

%% When a batch may be sent if `Waiting` events wait: now, with the most events it may have; at a time (of
%% erlang:monotonic_time); or only after something happens.
-spec may_send(non_neg_integer(), delivery()) -> {now, pos_integer()} | {at, integer()} | no.
may_send(Waiting, #delivery{sending = none, paused = none, limit = Limit, not_before = NotBefore, url = Url})
  when Url =/= none ->
    case Waiting >= Limit orelse now_ms() >= NotBefore of
        true -> {now, Limit};
        false -> {at, NotBefore}
    end;
may_send(_, _) ->
    no.

-spec is_sending(delivery()) -> boolean().
is_sending(#delivery{sending = Sending}) -> Sending =/= none.

-spec in_trouble(delivery()) -> boolean().
in_trouble(#delivery{trouble = Trouble}) -> Trouble =/= none.

%% When the daemon last took a batch, and the current failure.
-spec report(delivery()) -> #{contact => integer(), problem => unicode:chardata()}.
report(#delivery{contact = Contact, trouble = Trouble}) ->
    maps:from_list([{contact, Contact} || Contact =/= none] ++ [{problem, Text} || {_, Text} <- [Trouble]]).

-spec post(event_pusher_queue:batch(), delivery()) -> delivery().
post(#{source := Source, epoch := Epoch, first_seq := First, events := Events, count := Count} = Batch, D) ->
    #delivery{url = Url, headers = Headers, timeout = Timeout, tls = Tls} = D,
    Body = [<<"{\"source\":">>, event_pusher_json:text(Source), <<",\"epoch\":">>, event_pusher_json:text(Epoch),
            <<",\"first_seq\":">>, integer_to_binary(First), <<",\"events\":[">>,
            lists:join($,, Events), <<"]}">>],
    Client = case D#delivery.client of
                 none -> event_pusher_http:start_link();
                 Pid -> Pid
             end,
    Ref = make_ref(),
    event_pusher_http:post(Client, Ref, #{url => Url, headers => Headers, body => Body, timeout => Timeout, tls => Tls}),
    %% A timer of our own as well: a client that never answers would stop delivery for ever.
    Timer = erlang:send_after(Timeout + ?GRACE_MS, self(), {no_answer, Ref}),
    D#delivery{client = Client, sending = {Ref, Batch, Timer},
               not_before = now_ms() + min(?MAX_PACE_MS, ?PACE_MS * Count)}.

%% Handles a message about the current batch; `ignored` if it is none.
-spec handle(term(), delivery()) -> {outcome(), event_pusher_queue:batch() | none, delivery()} | ignored.
handle({http_answer, Ref, Result}, #delivery{sending = {Ref, Batch, Timer}} = D) ->
    _ = erlang:cancel_timer(Timer),
    answered(Result, Batch, D#delivery{sending = none});
handle({no_answer, Ref}, #delivery{sending = {Ref, Batch, _}} = D) ->
    answered({error, timeout}, Batch, end_client(D#delivery{sending = none}));
handle({'EXIT', Client, Reason}, #delivery{client = Client, sending = Sending} = D) ->
    D1 = D#delivery{client = none, sending = none},
    case Sending of
        none -> {ready, none, D1};
        {_, Batch, Timer} ->
            _ = erlang:cancel_timer(Timer),
            answered({error, {crashed, Reason}}, Batch, D1)
    end;
handle({resume, Pause}, #delivery{paused = Pause} = D) ->
    {ready, none, D#delivery{paused = none}};
handle(_, _) ->
    ignored.

end_client(#delivery{client = none} = D) ->
    D;
end_client(#delivery{client = Client} = D) ->
    unlink(Client),
    exit(Client, kill),
    D#delivery{client = none}.

answered(Result, #{count := Count, known := Known} = Batch, #delivery{limit = Limit} = D) ->
    case verdict(Result, Count) of
        {accepted, Duplicates} ->
            log_rejected(Result, D),
            D1 = (recovered(D))#delivery{contact = os:system_time(millisecond),
                                         limit = min(?BATCH_EVENTS, Limit * 2), backoff = ?BACKOFF_MIN_MS},
            case Duplicates > Known of
                true -> {{duplicates, Duplicates}, Batch, D1};
                false -> {taken, Batch, D1}
            end;
        too_large ->
            {{lost, "the daemon refused it as too large (status 413, too_large)"}, Batch, recovered(D)};
        smaller ->
            {again, Batch, D#delivery{limit = max(1, Count div 2)}};
        Failure when element(1, element(2, Result)) =:= connect ->
            {unsent, Batch, failed(Failure, Result, D)};
        Failure ->
            {failed, Batch, failed(Failure, Result, D)}
    end.

%% The meaning of an answer to a batch of `Count` events.
-spec verdict(event_pusher_http:result(), pos_integer()) -> verdict().
verdict({ok, 200, _, Body}, Count) ->
    case accepted(Body, Count) of
        {ok, Duplicates} -> {accepted, Duplicates};
        error -> slow
    end;
verdict({ok, 413, _, _}, Count) when Count > 1 -> smaller;
verdict({ok, 413, _, Body}, _) ->
    case is_too_large(Body) of
        true -> too_large;
        false -> slow
    end;
verdict({ok, Status, _, _}, _) when Status =:= 400; Status =:= 401; Status =:= 403 -> slow;
verdict({ok, 503, #{<<"retry-after">> := After}, _}, _) ->
    case string:to_integer(After) of
        {Seconds, <<>>} when is_integer(Seconds), Seconds >= 0 -> {later, min(Seconds, 600) * 1000};
        _ -> backoff
    end;
verdict(_, _) -> backoff.

%% The daemon's counts, if the answer is the daemon's: with the refused events they must add up to the batch. The list
%% of refused events may be longer than the part of the answer that is read.
accepted(Body, Count) ->
    Number = fun(Name) ->
                     Pattern = ["^\\s*\\{[^\\[]*\"", Name, "\"\\s*:\\s*(\\d{1,9})\\s*[,}]"],
                     re:run(Body, Pattern, [{capture, [1], binary}])
             end,
    case {Number("accepted"), Number("duplicates")} of
        {{match, [Accepted]}, {match, [Text]}} ->
            Duplicates = binary_to_integer(Text),
            Refused = refused(Body),
            Sum = binary_to_integer(Accepted) + Duplicates + length(Refused),
            Whole = byte_size(Body) < event_pusher_http:most_bytes(),
            case lists:all(fun(Index) -> Index < Count end, Refused) of
                true when Sum =:= Count; Sum < Count, not Whole -> {ok, Duplicates};
                _ -> error
            end;
        _ -> error
    end.

%% The indexes of refused events. This matches no text, whose quotation marks are escaped.
refused(Body) ->
    case re:run(Body, <<"\"index\"\\s*:\\s*(\\d{1,9})\\s*[,}]">>, [global, {capture, [1], binary}]) of
        {match, Found} -> [binary_to_integer(Index) || [Index] <- Found];
        nomatch -> []
    end.

is_too_large(Body) ->
    re:run(Body, <<"^\\s*\\{\\s*\"error\"\\s*:\\s*\\{[^}]*\"code\"\\s*:\\s*\"too_large\"">>, [{capture, none}]) =:= match.

failed(Failure, Result, #delivery{backoff = Backoff, slow_retry = Slow} = D) ->
    D1 = log_trouble(Result, D),
    case Failure of
        slow -> pause(Slow, D1);
        {later, Ms} -> pause(max(Ms, ?BACKOFF_MIN_MS), D1);
        backoff ->
            pause(Backoff div 2 + rand:uniform(Backoff), D1#delivery{backoff = min(Backoff * 2, ?BACKOFF_MAX_MS)})
    end.

%% Pauses delivery. `handle` returns `ready` when the pause is over.
-spec pause(non_neg_integer(), delivery()) -> delivery().
pause(Ms, D) ->
    Pause = make_ref(),
    _ = erlang:send_after(Ms, self(), {resume, Pause}),
    D#delivery{paused = Pause}.

-spec resume(delivery()) -> delivery().
resume(#delivery{paused = none} = D) -> D;
resume(D) -> D#delivery{paused = none, backoff = ?BACKOFF_MIN_MS}.

-spec stop(delivery()) -> ok.
stop(D) ->
    _ = end_client(D),
    ok.

%%%------------------------------------------------------------------------------------------------------ the log

%% Logs each failure once, not each attempt.
log_trouble(Result, #delivery{label = Label, shown = Url, trouble = Trouble} = D) ->
    {Kind, Level, Text} = trouble(Result),
    case Trouble of
        {Kind, _} -> ok;
        _ -> event_pusher_log:log(Level, "~ts: can't deliver events to ~ts: ~ts; keeping them and retrying",
                                  [Label, Url, Text])
    end,
    D#delivery{trouble = {Kind, Text}}.

recovered(#delivery{trouble = none} = D) ->
    D;
recovered(#delivery{label = Label, shown = Url} = D) ->
    event_pusher_log:log(notice, "~ts: delivery to ~ts works again", [Label, Url]),
    D#delivery{trouble = none}.

trouble({ok, 401, _, _}) -> {401, error, "it rejects the secret (status 401)"};
trouble({ok, 403, _, Body}) ->
    {403, error, io_lib:format("it accepts no events from this server (status 403): ~ts", [clip(Body)])};
trouble({ok, 400, _, Body}) ->
    {400, error, io_lib:format("it rejects the batch as invalid (status 400): ~ts", [clip(Body)])};
trouble({ok, 200, _, _}) -> {200, warning, "status 200, but not the daemon's answer"};
trouble({ok, 413, _, _}) -> {413, error, "a proxy before the daemon rejects even a single event as too large (status 413)"};
trouble({ok, Status, _, _}) -> {Status, warning, io_lib:format("it answered with status ~B", [Status])};
trouble({error, {connect, Why}}) -> {{unreachable, Why}, warning, io_lib:format("no connection (~0p)", [Why])};
trouble({error, timeout}) -> {timeout, warning, "no answer"};
trouble({error, Reason}) -> {{broken, Reason}, warning, io_lib:format("~0p", [Reason])}.

%% Logs reasons only: they describe the error, never the event's content.
log_rejected({ok, _, _, Body}, #delivery{label = Label}) ->
    case re:run(Body, <<"\"rejected\"\\s*:\\s*\\[\\s*(\\{.*)\\]">>, [dotall, {capture, [1], binary}]) of
        {match, [Reasons]} ->
            event_pusher_log:log(warning, "~ts: the daemon refused events: ~ts", [Label, clip(Reasons)]);
        nomatch -> ok
    end;
log_rejected(_, _) ->
    ok.

clip(Text) ->
    binary:part(Text, 0, min(500, byte_size(Text))).

now_ms() ->
    erlang:monotonic_time(millisecond).
