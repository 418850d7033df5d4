%%% The adapter's process, one for each virtual host and node: takes the hooks' items from the inbox, has the census
%%% count sessions, commits to the queue, delivers.
%%%
%%%   hooks --> inbox --> census (counts the user's sessions) --> queue on disk --> HTTP POST --> removed
%%%
%%% Invariants:
%%%  - An event is sent only after it was committed under its position.
%%%  - When idle, the process commits and sends each event at once. Events gather while a batch is being sent or the
%%%    census counts, for at most 50 ms; a SIGKILL loses no more than that.
%%%  - No failure (disk, cluster, daemon) stops the hooks or this process: its supervisor is shared by all modules and
%%%    would take the whole server down.
%%%
%%% All calls to the XMPP server go through the module described in event_pusher_host.
-module(event_pusher_server).
-behaviour(gen_server).

-export([start_link/1, reload/1, leave/2, stay/1, hand_over/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {config :: event_pusher_host:config(),
                inbox :: event_pusher_inbox:inbox(),
                sessions :: event_pusher_sessions:sessions(),
                delivery :: event_pusher_delivery:delivery(),
                queue = none :: event_pusher_queue:queue() | none,
                gathering = event_pusher_gathering:new() :: event_pusher_gathering:gathering(),
                counting :: event_pusher_counting:counting(),
                %% Operations that the disk has not accepted yet, in groups, newest first.
                next = 1 :: event_pusher_segment:position(),
                unwritten = [] :: [[event_pusher_segment:op()]],
                write_again = none :: none | reference(),
                paced = none :: none | reference(),
                dropped = 0 :: non_neg_integer(),
                logged = #{} :: event_pusher_log:seen(),
                status = none :: event_pusher_status:status() | none,
                leaving = none :: none | reference(),
                stopping = false :: boolean(),
                %% Whether another process will take over.
                handing_over = false :: boolean()}).

%% How long a stopping server waits for the cluster to count sessions.
-define(COUNT_MS, 1000).
-define(DISK_RETRY_MS, 1000).
%% How long a stopping server waits for the daemon to take the last events; the rest is delivered after the next start.
-define(FAREWELL_MS, 3000).
-define(TICK_MS, 1000).

-spec start_link(event_pusher_host:config()) -> {ok, pid()} | ignore | {error, term()}.
start_link(#{name := Name} = Config) ->
    gen_server:start_link({local, Name}, ?MODULE, Config, []).

%% Reloads the options.
-spec reload(Name :: atom()) -> ok.
reload(Name) ->
    gen_server:cast(Name, reload).

%% Stops the process after a delay, by the callback `stop_now`, unless `stay` is called. Only the first call counts.
-spec leave(Name :: atom(), Ms :: pos_integer()) -> ok.
leave(Name, Ms) ->
    gen_server:cast(Name, {leave, Ms}).

%% Cancels `leave` and reloads the options; `none` if there is no such process.
-spec stay(Name :: atom()) -> {ok, pid()} | none.
stay(Name) ->
    try {ok, gen_server:call(Name, stay)}
    catch exit:_ -> none
    end.

%% Prepares to be replaced by another process, perhaps of a newer version. The hooks stay, and their items are kept
%% aside meanwhile.
-spec hand_over(Name :: atom()) -> ok | none.
hand_over(Name) ->
    try gen_server:call(Name, hand_over, infinity)
    catch exit:_ -> none
    end.

%%%----------------------------------------------------------------------------------------------------- gen_server

-spec init(event_pusher_host:config()) -> {ok, #state{}}.
init(#{name := Name, host := Host, server := Server} = Config) ->
    process_flag(trap_exit, true),
    Run = event_pusher_sessions:run(),
    S = configure(#state{config = Config, inbox = event_pusher_inbox:open({Server, Host}, Name),
                         sessions = event_pusher_sessions:new(Run),
                         counting = event_pusher_counting:start(Server, Host, Run),
                         delivery = event_pusher_delivery:new(Host, fun Server:tls_options/0)}),
    _ = erlang:send_after(?TICK_MS, self(), tick),
    ok = Server:hooks(add, Host),
    Aside = event_pusher_inbox:take_aside(S#state.inbox),
    {ok, advance(lists:foldl(fun seen/2, open_queue(Aside, S), Aside))}.

configure(#state{config = #{host := Host, server := Server}, inbox = Inbox, delivery = Delivery} = S) ->
    #{queue_max := Max} = Options = Server:options(Host),
    event_pusher_inbox:limit(Max, Inbox),
    S#state{delivery = event_pusher_delivery:configure(Options, Delivery)}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, pid() | unknown, #state{}}.
handle_call(stay, _From, S) ->
    {reply, self(), handle(reload, S#state{leaving = none})};
handle_call(hand_over, _From, S) ->
    {reply, ok, S#state{handing_over = true}};
handle_call(_Request, _From, S) ->
    {reply, unknown, S}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(Request, S) ->
    {noreply, handle(Request, S)}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(Message, S) ->
    {noreply, handle(Message, S)}.

handle({seen, Item}, S) ->
    advance(look(seen(Item, S)));
handle(flush, S) ->
    advance(flush(S));
handle({'$gen_cast', Request}, S) ->
    handle(Request, S);
handle({leave, Ms}, #state{leaving = none} = S) ->
    Leaving = make_ref(),
    _ = erlang:send_after(Ms, self(), {left, Leaving}),
    S#state{leaving = Leaving};
handle({left, Leaving}, #state{leaving = Leaving, config = #{host := Host, server := Server}} = S) ->
    _ = spawn(Server, stop_now, [Host]),
    S;
handle(reload, S) ->
    #state{delivery = Delivery} = S1 = configure(S),
    advance(S1#state{delivery = event_pusher_delivery:resume(Delivery)});
handle({claimed, Left}, S) ->
    %% Sessions of a node that died: nobody else reports their end.
    advance(add([{gone, now_ms(), USR, Count} || {USR, Count} <- Left], S));
handle({reclaimed, Refs}, S) ->
    advance(changed(fun(Sessions) -> event_pusher_sessions:reclaimed(now_ms(), Refs, Sessions) end, S));
handle({'DOWN', _, process, Pid, _}, S) ->
    advance(changed(fun(Sessions) -> event_pusher_sessions:seen({ended, now_ms(), Pid}, Sessions) end, look(S)));
handle({handover_over, Ref, USR, At}, S) ->
    advance(changed(fun(Sessions) -> event_pusher_sessions:handover_over(Ref, USR, At, Sessions) end, look(S)));
handle(paced, S) ->
    advance(S#state{paced = none});
handle(write_again, S) ->
    advance(commit(S#state{write_again = none}));
handle(open_again, S) ->
    advance(open_queue([], S));
handle(tick, #state{inbox = Inbox} = S) ->
    _ = erlang:send_after(?TICK_MS, self(), tick),
    %% A hook may have put an item aside after this process started.
    S1 = lists:foldl(fun seen/2, S, event_pusher_inbox:take_aside(Inbox)),
    write_status(report_dropped(S1));
handle(Message, #state{counting = Counting} = S) ->
    case event_pusher_counting:handle(Message, Counting) of
        {counted, Items, Counts, Counting1} -> advance(write(Items, Counts, S#state{counting = Counting1}));
        {late, Items, Counts, Counting1} ->
            S1 = seldom(late, warning, "~ts: the cluster is slow to answer; sending events without a count of sessions", [], S),
            advance(write(Items, Counts, S1#state{counting = Counting1}));
        {restarted, Counting1} ->
            advance(changed(fun event_pusher_sessions:revive/1, S#state{counting = Counting1}));
        {ok, Counting1} -> S#state{counting = Counting1};
        ignored -> handle_delivery(Message, S)
    end.

handle_delivery(Message, #state{delivery = Delivery} = S) ->
    case event_pusher_delivery:handle(Message, Delivery) of
        {Outcome, Batch, Delivery1} -> advance(outcome(Outcome, Batch, S#state{delivery = Delivery1}));
        ignored -> S
    end.

%%%------------------------------------------------------------------------------------------------- what gathers

add(New, #state{gathering = Gathering} = S) ->
    S#state{gathering = event_pusher_gathering:add(New, Gathering)}.

%% Takes further items of the hooks.
look(#state{gathering = Gathering} = S) ->
    lists:foldl(fun seen/2, S#state{gathering = event_pusher_gathering:looking(Gathering)}, event_pusher_inbox:take()).

seen(Item, S) when is_binary(Item); Item =:= dropped -> add([Item], S);
seen(Item, S) -> changed(fun(Sessions) -> event_pusher_sessions:seen(Item, Sessions) end, S).

changed(Function, #state{sessions = Sessions} = S) ->
    {Changes, Sessions1} = Function(Sessions),
    add(Changes, S#state{sessions = Sessions1}).

%% Only one group is with the census at a time; the next one gathers meanwhile.
flush(#state{gathering = Gathering, queue = none} = S) ->
    look(S#state{gathering = event_pusher_gathering:disarm(Gathering)});
flush(#state{gathering = Gathering, counting = Counting} = S) ->
    case event_pusher_counting:is_waiting(Counting) of
        true -> S#state{gathering = event_pusher_gathering:disarm(Gathering)};
        false ->
            #state{gathering = Gathering1} = S1 = look(S),
            {Items, Gathering2} = event_pusher_gathering:take(Gathering1),
            case event_pusher_counting:ask(Items, Counting) of
                {counted, Counts, Counting1} ->
                    write(Items, Counts, S1#state{gathering = Gathering2, counting = Counting1});
                {waiting, Counting1} -> S1#state{gathering = Gathering2, counting = Counting1}
            end
    end.

%% Assigns positions to the events and commits them, unless the disk is to be retried later.
write(Items, Counts, #state{config = #{server := Server}, inbox = Inbox, queue = Queue} = S) ->
    Context = #{next => S#state.next, acked_before => event_pusher_queue:acked_before(Queue),
                dropped => S#state.dropped, inbox => Inbox, jid_text => fun Server:jid_text/1},
    {Ops, #{next := Next, dropped := Dropped}} = event_pusher_changes:number(Items, Counts, Context),
    %% Restarts the timer of events that gathered during the count.
    S1 = S#state{next = Next, dropped = Dropped, unwritten = [Ops ++ [{next, Next}] | S#state.unwritten],
                 gathering = event_pusher_gathering:rearm(S#state.gathering)},
    case S1 of
        #state{write_again = Timer, stopping = false} when Timer =/= none -> S1;
        _ -> commit(S1)
    end.

commit(#state{unwritten = []} = S) ->
    S;
commit(#state{queue = none} = S) ->
    S;
commit(#state{unwritten = Unwritten, queue = Queue, next = Next} = S) ->
    case {Unwritten, event_pusher_queue:next(Queue)} of
        {[[{next, Next}]], Next} -> S#state{unwritten = []};
        _ ->
            case event_pusher_queue:append(lists:append(lists:reverse(Unwritten)), Queue) of
                {ok, Queue1} ->
                    recovered(disk, "~ts: writing events to disk works again", S#state{queue = Queue1, unwritten = []});
                {error, Reason, Queue1} ->
                    Timer = erlang:send_after(?DISK_RETRY_MS, self(), write_again),
                    seldom(disk, error, "~ts: can't write events to disk (~ts), keeping them in memory",
                           [file:format_error(Reason)], S#state{queue = Queue1, write_again = Timer})
            end
    end.

%%%-------------------------------------------------------------------------------------------- queue and delivery

%% `Aside`: the items since the former process stopped.
open_queue(Aside, #state{config = Config, inbox = Inbox} = S) ->
    #{host := Host, dir := Dir, source := Source, server := Server} = Config,
    case event_pusher_queue:open(Dir, Source, Host) of
        {ok, Queue} ->
            Undelivered = event_pusher_queue:undelivered(Queue),
            event_pusher_inbox:add(Undelivered, Inbox),
            Undelivered > 0 andalso
                event_pusher_log:log(notice, "~ts: ~B events wait for delivery", [Host, Undelivered]),
            Ledger = event_pusher_queue:ledger(Queue),
            Present = event_pusher_sessions:before(Aside, Server:present_sessions(Host)),
            Reconcile = fun(Sessions) -> event_pusher_sessions:reconcile(now_ms(), Ledger, Present, Sessions) end,
            S1 = changed(Reconcile, S#state{queue = Queue, next = event_pusher_queue:next(Queue)}),
            %% The marker of events dropped meanwhile may have gone to the former process.
            #state{gathering = Gathering} = S2 = add([dropped], S1),
            S2#state{gathering = event_pusher_gathering:flush_at(in(0), Gathering)};
        {error, Path, Reason} ->
            _ = erlang:send_after(?DISK_RETRY_MS, self(), open_again),
            seldom(open, error, "~ts: can't open the queue (~ts: ~ts), keeping events in memory",
                   [Path, file:format_error(Reason)], S)
    end.

%% Sends the next batch, when it may; and commits what has gathered before, so that it can be in it.
advance(#state{queue = none} = S) ->
    S;
advance(#state{delivery = Delivery, paced = Paced} = S) ->
    case event_pusher_delivery:may_send(held(S), Delivery) of
        {now, Limit} -> post(Limit, commit_gathered(S));
        {at, Time} when Paced =:= none -> S#state{paced = erlang:send_after(Time, self(), paced, [{abs, true}])};
        _ -> S
    end.

commit_gathered(#state{gathering = Gathering, write_again = WriteAgain} = S) ->
    case WriteAgain =:= none andalso event_pusher_gathering:is_urgent(Gathering) of
        true -> flush(S);
        false -> S
    end.

post(Limit, #state{queue = Queue, delivery = Delivery} = S) ->
    case event_pusher_queue:batch(Limit, Queue) of
        {ok, Batch, Queue1} -> S#state{queue = Queue1, delivery = event_pusher_delivery:post(Batch, Delivery)};
        {none, Queue1} -> S#state{queue = Queue1};
        {error, Reason} -> later(read, "~ts: can't read the queue ~ts: ~0p", [event_pusher_queue:dir(Queue), Reason], S)
    end.

%% The disk may work again after a pause.
later(Kind, Format, Args, #state{delivery = Delivery} = S) ->
    seldom(Kind, error, Format, Args, S#state{delivery = event_pusher_delivery:pause(?DISK_RETRY_MS, Delivery)}).

outcome(taken, Batch, #state{queue = Queue} = S) ->
    forget(Batch, S#state{queue = event_pusher_queue:taken(Batch, Queue)});
outcome({lost, Reason}, #{first_seq := Seq, events := [Json]} = Batch, #state{config = #{host := Host}} = S) ->
    case event_pusher_queue:lost(Batch, S#state.queue) of
        {ok, Queue} ->
            event_pusher_log:log(error, "~ts: event ~B (~B bytes) is lost: ~ts", [Host, Seq, byte_size(Json), Reason]),
            forget(Batch, S#state{queue = Queue});
        {error, Error, Queue} -> unwritten(Error, Queue, S)
    end;
outcome({duplicates, Duplicates}, #{epoch := Epoch, first_seq := First, known := Known} = Batch, S) ->
    #state{config = #{host := Host}, queue = Queue, inbox = Inbox} = S,
    event_pusher_log:log(error, "~ts: the daemon has other events with the numbers ~B to ~B of epoch ~ts, which this server never "
                         "sent: was a backup or snapshot restored? Sending them again under a new epoch",
                         [Host, First + Known, First + Duplicates - 1, Epoch]),
    case event_pusher_queue:renumber(Batch, Duplicates, Queue) of
        {ok, Done, Queue1} ->
            event_pusher_inbox:release(Done, Inbox),
            S#state{queue = Queue1};
        {error, Reason, Queue1} -> unwritten(Reason, Queue1, S)
    end;
outcome(unsent, Batch, #state{queue = Queue} = S) ->
    S#state{queue = event_pusher_queue:unsent(Batch, Queue)};
outcome(_, _, S) ->
    S.

unwritten(Reason, Queue, S) ->
    later(disk, "~ts: can't write to disk (~ts)", [file:format_error(Reason)], S#state{queue = Queue}).

forget(#{count := Count, last := Last}, #state{inbox = Inbox, gathering = Gathering} = S) ->
    event_pusher_inbox:release(Count, Inbox),
    S#state{gathering = event_pusher_gathering:acknowledge(Last, Gathering)}.

held(#state{inbox = Inbox}) ->
    max(0, event_pusher_inbox:held(Inbox)).

%%%------------------------------------------------------------------------------------------------------- the end

%% Processes the rest of the inbox and mailbox; then, if the server stops, ends all sessions in the ledger. Sessions
%% live on if only this process stops.
-spec terminate(term(), #state{}) -> ok.
terminate(Reason, #state{config = #{name := Name, host := Host, server := Server}} = S) ->
    %% After a crash the supervisor starts a new process.
    HandingOver = S#state.handing_over orelse not lists:member(Reason, [normal, shutdown]),
    case HandingOver of
        true -> unregister(Name);
        false -> Server:hooks(delete, Host)
    end,
    S1 = look(pump(fun(_) -> false end, 0, S#state{stopping = true})),
    S2 = case Server:is_stopping(Host) of
             true -> changed(fun(Sessions) -> event_pusher_sessions:end_all(now_ms(), Sessions) end, S1);
             false -> S1
         end,
    Written = fun(#state{gathering = G, counting = C}) ->
                      event_pusher_gathering:is_empty(G) andalso not event_pusher_counting:is_waiting(C)
              end,
    S3 = pump(Written, ?COUNT_MS, advance(flush(S2))),
    S4 = flush(wait_no_more(S3)),
    Delivered = fun(#state{delivery = D, paced = Paced}) ->
                        (Paced =:= none andalso not event_pusher_delivery:is_sending(D))
                            orelse event_pusher_delivery:in_trouble(D)
                end,
    S5 = case HandingOver of
             true -> S4;
             false -> pump(Delivered, ?FAREWELL_MS, advance(S4))
         end,
    #state{queue = Queue, delivery = Delivery} = S6 = flush(wait_no_more(S5)),
    _ = write_status(report_dropped(S6#state{logged = #{}})),
    _ = Queue =/= none andalso event_pusher_queue:close(Queue),
    event_pusher_delivery:stop(Delivery),
    HandingOver orelse event_pusher_inbox:delete({Server, Host}),
    ok.

%% Events that are not counted yet are committed without a count.
wait_no_more(#state{counting = Counting} = S) ->
    case event_pusher_counting:give_up(Counting) of
        {none, Counting1} -> S#state{counting = Counting1};
        {Items, Counting1} -> write(Items, unknown, S#state{counting = Counting1})
    end.

%% Handles messages until the condition holds or the time is over; with no time, until the mailbox is empty.
pump(Done, Ms, S) ->
    pump_until(Done, in(Ms), S).

pump_until(Done, Deadline, S) ->
    case Done(S) of
        true -> S;
        false ->
            receive
                Message -> pump_until(Done, Deadline, handle(Message, S))
            after max(0, Deadline - in(0)) -> S
            end
    end.

%%%--------------------------------------------------------------------------------------------------- small things

report_dropped(#state{dropped = 0} = S) ->
    S;
report_dropped(#state{dropped = N, logged = Logged} = S) ->
    case seldom(full, error, "~ts: the queue is full (queue_max): ~B events dropped since the last message", [N], S) of
        #state{logged = Logged} -> S;
        Told -> Told#state{dropped = 0}
    end.

write_status(#state{queue = none} = S) ->
    S;
write_status(#state{config = #{dir := Dir}, delivery = Delivery, status = Status} = S) ->
    Now = (event_pusher_delivery:report(Delivery))#{waiting => held(S)},
    S#state{status = event_pusher_status:write(Dir, Now, Status)}.

seldom(Kind, Level, Format, Args, #state{config = #{host := Host}, logged = Logged} = S) ->
    S#state{logged = event_pusher_log:seldom(Kind, Level, Format, [Host | Args], Logged)}.

recovered(Kind, Format, #state{config = #{host := Host}, logged = Logged} = S) ->
    S#state{logged = event_pusher_log:recovered(Kind, Format, [Host], Logged)}.

now_ms() ->
    os:system_time(millisecond).

%% The monotonic time in `Ms` milliseconds.
in(Ms) ->
    erlang:monotonic_time(millisecond) + Ms.
