%%% xmpp-event-pusher's adapter for ejabberd: tells the daemon who came online or went offline and which chat and
%%% group messages were sent, at least once and in order, by the tap protocol (docs/tap-protocol.md).
%%%
%%% One process for each virtual host and node. The hooks put what they see into a table, the inbox, and the first one
%%% says so to the process: a message for each event would wake it for each, which costs more than all else it does.
%%%
%%%   hooks --> inbox (50 ms) --> census: counts the user's sessions --> queue on disk --> HTTP POST --> forgotten
%%%
%%% Maintained invariants:
%%%  - An event is sent only after it was committed under its number: a number never stands for two events.
%%%  - A session's entry in the ledger and the event that tells of the change are committed in one group. So after a
%%%    crash the ledger says exactly whose offline event is still owed.
%%%  - An event that finds the queue full still changes the ledger; only its number is used up, as a hole to be seen.
%%%  - Whatever fails (disk, cluster, daemon), the hooks go on and this process lives: its supervisor is the one of
%%%    all modules, and would take the whole server down with it.
%%%
%%% No record and no header of ejabberd's is used, so that one source serves all versions from 23.01.
-module(mod_event_pusher).
-behaviour(gen_mod).
-behaviour(gen_server).

-export([start/2, stop/1, reload/3, depends/2, mod_options/1, mod_opt_type/1, mod_doc/0, mod_status/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, code_change/3]).
-export([user_send_packet/1, c2s_self_presence/1, unset_presence/4, c2s_session_resumed/1, c2s_terminated/2]).
-export([census/3]).

%% How long events gather before they are committed together.
-define(GROUP_MS, 50).
%% Acknowledgements may be lost (the daemon knows duplicates), so they wait for company.
-define(ACK_MS, 200).
%% How long a group waits for the cluster to count sessions, at the first time and later. Without an answer the
%% events go without a count, which makes the daemon publish them.
-define(FIRST_COUNT_MS, 10000).
-define(COUNT_MS, 1000).
%% How long a resumed session's former process is remembered, until the new one (perhaps on another node) took over.
-define(HANDOVER_MS, 10000).
%% A batch: as many events as the protocol allows, for the price is by the batch; but fewer bytes than it allows keep
%% the daemon's other sources moving.
-define(BATCH_EVENTS, 1000).
-define(BATCH_BYTES, 1048576 - 2048).
%% After a batch of so many events the next one waits until it is full, or until so long after that one was sent.
-define(BUSY_EVENTS, 100).
-define(BUSY_MS, 100).
%% A stanza that makes an event larger than this is left out of it: the daemon takes 4 MiB.
-define(EVENT_BYTES, 3145728).
-define(CONNECT_MS, 5000).
-define(BACKOFF_MIN_MS, 250).
-define(BACKOFF_MAX_MS, 5000).
-define(DISK_RETRY_MS, 1000).
%% How long a stopping server waits for the daemon to take the last events; the rest is delivered at the next start.
-define(FAREWELL_MS, 3000).
-define(TICK_MS, 1000).
-define(LOG_EVERY_MS, 60000).
-define(SEGMENT_BYTES, 8388608).
%% What is committed at once is split into groups of this size, that are good to read, and messages into pieces of that.
%% The virtual machine takes binaries of half a megabyte and more from the operating system, one by one, which is dear.
-define(GROUP_BYTES, 262144).
-define(PIECE_BYTES, 131072).
%% What is written is kept in memory up to so much, to be sent without being read back.
-define(AHEAD_BYTES, 4194304).
-define(SESSIONS, event_pusher_session).
-define(CLAIMS, event_pusher_claim).
%% The gauge, an array of atomics that the hooks share with the process: events held anywhere (inbox, memory, disk),
%% the most that may be, events dropped since the process last looked, whether it was told to look into the inbox, and how
%% many items were ever put there. Not erlang:unique_integer([monotonic]) for that: ejabberd compares sessions of two nodes
%% that are less than a second apart by how far each node has counted with it, and the one that has counted further would
%% win.
-define(HELD, 1).
-define(MAX, 2).
-define(DROPPED, 3).
-define(TOLD, 4).
-define(PUT, 5).
-define(GAUGE_SIZE, 5).

%%%------------------------------------------------------------------------------------------------------- gen_mod

%% Not gen_mod:start_child/3: with the option max_fsm_queue that would have the process killed for a long mailbox.
start(Host, Opts) ->
    Proc = proc(Host),
    Start = {gen_server, start_link, [{local, Proc}, ?MODULE, [Host, Opts], []]},
    supervisor:start_child(ejabberd_gen_mod_sup, {Proc, Start, transient, 60000, worker, [?MODULE]}).

stop(Host) ->
    gen_mod:stop_child(?MODULE, Host).

reload(Host, NewOpts, _OldOpts) ->
    proc(Host) ! {reload, NewOpts},
    ok.

depends(_Host, _Opts) ->
    [].

mod_opt_type(url) -> econf:url([http, https]);
mod_opt_type(secret) -> econf:binary();
mod_opt_type(queue_max) -> econf:pos_int();
mod_opt_type(timeout) -> econf:timeout(millisecond);
mod_opt_type(slow_retry) -> econf:timeout(millisecond).

mod_options(_Host) ->
    [{url, <<"http://127.0.0.1:5290/v1/events">>}, {secret, <<>>}, {queue_max, 1000000},
     {timeout, 15000}, {slow_retry, 30000}].

mod_doc() ->
    #{desc => <<"Tells the daemon xmpp-event-pusher, which publishes to Amazon SNS, who came online or went offline "
                "and which chat and group messages were sent.">>,
      opts =>
          [{url, #{value => "URL", desc => <<"The daemon's HTTP tap.">>}},
           {secret, #{value => "Secret", desc => <<"The tap's secret.">>}},
           {queue_max, #{value => "Number",
                         desc => <<"Events kept on disk while the daemon is away; beyond it the newest are dropped.">>}},
           {timeout, #{value => "timeout()", desc => <<"How long the daemon may take to answer.">>}},
           {slow_retry, #{value => "timeout()",
                          desc => <<"Pause after the daemon refused the secret or the form of a batch.">>}}],
      example => ["modules:", "  mod_event_pusher:", "    url: http://127.0.0.1:5290/v1/events",
                  "    secret: \"the tap's secret\""]}.

mod_status() ->
    Held = [io_lib:format("~ts: ~B", [Host, max(0, atomics:get(Gauge, ?HELD))])
            || Host <- ejabberd_option:hosts(),
               {Gauge, _, _} <- [persistent_term:get({?MODULE, Host}, none)]],
    lists:flatten(["events not yet delivered: " | lists:join(", ", Held)]).

proc(Host) ->
    gen_mod:get_module_proc(Host, ?MODULE).

%%%--------------------------------------------------------------------------- hooks, run by the session's process

hooks(AddOrDelete, Host) ->
    %% Messages after the filters of other modules, so that what these drop was not sent. c2s_terminated before
    %% mod_stream_mgmt (50), which stops the hook for a resumed session's former process.
    [ejabberd_hooks:AddOrDelete(Hook, Host, ?MODULE, Function, Priority)
     || {Hook, Function, Priority} <- [{user_send_packet, user_send_packet, 90},
                                       {c2s_self_presence, c2s_self_presence, 20},
                                       {unset_presence_hook, unset_presence, 20},
                                       {c2s_session_resumed, c2s_session_resumed, 20},
                                       {c2s_terminated, c2s_terminated, 20}]],
    ok.

%% A session's state has a `sid`. mod_privilege and the admin commands also run this hook, for messages that they
%% send in a user's name: no session sent these, and there is no full JID to tell.
user_send_packet({Packet, #{sid := _, jid := JID}} = Acc) when element(1, Packet) =:= message ->
    case xmpp:get_type(Packet) of
        Type when Type =:= chat; Type =:= groupchat -> report_message(Type, Packet, JID);
        _ -> ok
    end,
    Acc;
user_send_packet(Acc) ->
    Acc.

report_message(Type, Packet, JID) ->
    From = address(event_pusher_from, JID, fun sender_json/1),
    To = address(event_pusher_to, xmpp:get_to(Packet), fun recipient_json/1),
    Xml = encode(Packet, From, To),
    case fxml:get_subtag(Xml, <<"body">>) of
        false -> ok;
        Body ->
            {_, Host, _} = jid:tolower(JID),
            {Gauge, _, _} = Way = persistent_term:get({?MODULE, Host}),
            Taken = admit(Gauge) andalso
                put_into(Way, Host, message_json(Type, From, To, xmpp:get_id(Packet), fxml:get_tag_cdata(Body), Xml)),
            %% One marker for all that are dropped until it is seen: it says where in the order they were.
            Taken orelse (atomics:add_get(Gauge, ?DROPPED, 1) =:= 1 andalso put_into(Way, Host, dropped))
    end.

%% The addresses as XML and as JSON have them. The sender's are the same in all that a session sends, the recipient's most
%% often those of the message before; so they are kept in the session's process until it is another address.
address(Key, JID, Json) ->
    case get(Key) of
        {JID, Kept} -> Kept;
        _ ->
            New = {jid:encode(JID), iolist_to_binary(Json(jid:tolower(JID)))},
            put(Key, {JID, New}),
            New
    end.

sender_json({_, Host, _} = From) ->
    [<<",\"host\":">>, text(Host), <<",\"from\":">>, text(jid:encode(From))].

recipient_json(To) ->
    [<<",\"to\":">>, text(jid:encode(To))].

%% Making the addresses' text anew is half of what encoding a message costs. ejabberd has put the session's own address
%% there (RFC 6120, 8.1.2.1).
encode(Packet, {From, _}, {To, _}) ->
    Xml = xmpp:encode(xmpp:set_from_to(Packet, undefined, undefined)),
    fxml:replace_tag_attr(<<"from">>, From, fxml:replace_tag_attr(<<"to">>, To, Xml)).

%% The JSON is made here, where many processes share the work, and not in the one process of the queue. At once, not piece
%% by piece: these processes have a lot on their heaps, and each piece brings the next garbage collection nearer.
message_json(Type, {_, From}, {_, To}, Id, Body, Xml) ->
    Known = {integer_to_binary(now_ms()), From, type_json(Type), To, id_json(Id), escape(Body)},
    case message_json(Known, <<"\",\"stanza\":\"">>, escape(fxml:element_to_binary(Xml))) of
        Json when byte_size(Json) =< ?EVENT_BYTES -> Json;
        _ -> message_json(Known, <<>>, <<>>)
    end.

message_json({At, From, Type, To, Id, Body}, Open, Stanza) ->
    <<"{\"kind\":\"message\",\"at\":", At/binary, From/binary, Type/binary, To/binary, Id/binary,
      ",\"body\":\"", Body/binary, Open/binary, Stanza/binary, "\"}">>.

type_json(chat) -> <<",\"type\":\"chat\"">>;
type_json(groupchat) -> <<",\"type\":\"groupchat\"">>.

id_json(<<>>) -> <<>>;
id_json(Id) -> <<",\"stanza_id\":\"", (escape(Id))/binary, $">>.

%% The state still holds the presence before this one, if there was any: only the first one makes available.
c2s_self_presence({Presence, #{jid := JID} = State} = Acc) ->
    case xmpp:get_type(Presence) =:= available andalso not maps:is_key(pres_last, State) of
        true -> tell(available, JID);
        false -> ok
    end,
    Acc;
c2s_self_presence(Acc) ->
    Acc.

%% Runs for unavailable presence (also a second one) and for each end of an available session.
unset_presence(User, Server, Resource, _Status) ->
    tell(unavailable, jid:make(User, Server, Resource)).

c2s_session_resumed(#{jid := JID} = State) ->
    case maps:is_key(pres_last, State) of
        true -> tell(resumed, JID);
        false -> ok
    end,
    State;
c2s_session_resumed(State) ->
    State.

c2s_terminated(#{mgmt_state := resumed, jid := JID} = State, _Reason) ->
    tell(handed_over, JID),
    State;
c2s_terminated(State, _Reason) ->
    State.

%% The process, not the JID, says which session it is: for a moment a replaced session and its successor share the JID.
tell(What, JID) ->
    {_, Host, _} = USR = jid:tolower(JID),
    put_into(persistent_term:get({?MODULE, Host}), Host, {What, now_ms(), self(), USR}).

%% False while the table is gone, because the process starts again; what it misses of sessions it finds out then.
%% The time is that of the oldest item: the process may be late to hear of it.
put_into({Gauge, Inbox, Proc} = Way, Host, Item) ->
    try
        ets:insert(Inbox, {atomics:add_get(Gauge, ?PUT, 1), Item}),
        atomics:get(Gauge, ?TOLD) =:= 0 andalso atomics:exchange(Gauge, ?TOLD, 1) =:= 0
            andalso (Proc ! {look, in(0)}),
        true
    catch
        %% Or the process has started again since the table was found.
        error:badarg ->
            case persistent_term:get({?MODULE, Host}) of
                Way -> false;
                New -> put_into(New, Host, Item)
            end
    end.

%% One more event, if the queue has room for it. Bounds the inbox too.
admit(Gauge) ->
    case atomics:add_get(Gauge, ?HELD, 1) > atomics:get(Gauge, ?MAX) of
        true ->
            atomics:sub(Gauge, ?HELD, 1),
            false;
        false -> true
    end.

%%%------------------------------------------------------------------------------------------------- the process

%% `pids`, `jids` and `handover` are the sessions as they are now; the queue's ledger is what is committed of them.
init([Host, Opts]) ->
    process_flag(trap_exit, true),
    Run = run_id(),
    Gauge = gauge(Host),
    Seen = atomics:get(Gauge, ?PUT),
    %% Not an ordered table: new keys meet at the end of that, where sessions would wait for one another. And not a named
    %% one: each use of a name looks it up in a table that all share.
    Inbox = ets:new(inbox, [public, {write_concurrency, true}]),
    persistent_term:put({?MODULE, Host}, {Gauge, Inbox, proc(Host)}),
    S0 = #{host => Host, run => Run, gauge => Gauge, inbox => Inbox, seen => Seen, missing => [], pids => #{},
           jids => #{}, handover => #{}, items => [], timer => none, waiting => none, asked => 0, asked_at => in(0),
           late => false, counted => false, queue => none, next => 1, unwritten => [], write_again => none,
           sending => none, pause => none, not_before => in(0), paced => none, limit => ?BATCH_EVENTS,
           backoff => ?BACKOFF_MIN_MS, trouble => none, profile => none, dropped => 0, logged => #{}, stopping => false},
    S1 = start_census(configure(current(Host, Opts), S0)),
    [atomics:put(Gauge, Index, 0) || Index <- [?HELD, ?TOLD]],
    erlang:send_after(?TICK_MS, self(), tick),
    hooks(add, Host),
    {ok, send(open_queue(S1))}.

%% Started again after a crash, it is given the options of its first start, and there may have been a reload since.
current(Host, First) ->
    try gen_mod:get_module_opts(Host, ?MODULE)
    catch _:_ -> First
    end.

configure(Opts, S) ->
    Secret = gen_mod:get_opt(secret, Opts),
    S1 = S#{url => binary_to_list(gen_mod:get_opt(url, Opts)),
            headers => [{"authorization", "Bearer " ++ binary_to_list(Secret)} || Secret =/= <<>>],
            timeout => gen_mod:get_opt(timeout, Opts), slow_retry => gen_mod:get_opt(slow_retry, Opts)},
    atomics:put(maps:get(gauge, S), ?MAX, gen_mod:get_opt(queue_max, Opts)),
    S1#{profile := start_http(S1)}.

%% Names this run of the virtual machine: sessions of another one are gone, whatever their process ids say.
run_id() ->
    case persistent_term:get({?MODULE, run}, none) of
        none ->
            Run = random_hex(),
            persistent_term:put({?MODULE, run}, Run),
            Run;
        Run -> Run
    end.

%% Outlives the process.
gauge(Host) ->
    case persistent_term:get({?MODULE, Host}, none) of
        {Gauge, _, _} -> Gauge;
        _ -> atomics:new(?GAUGE_SIZE, [{signed, true}])
    end.

handle_call(_Request, _From, S) ->
    {reply, unknown, S}.

handle_cast(_, S) ->
    {noreply, S}.

handle_info({look, At}, S) ->
    {noreply, arm(At + ?GROUP_MS, S)};
handle_info(flush, S) ->
    {noreply, flush(S)};
handle_info({reload, Opts}, S) ->
    {noreply, send(resume_sending(configure(Opts, S)))};
handle_info({counted, Id, Counts}, S) ->
    {noreply, counted(Id, Counts, S)};
handle_info({count_late, Id}, #{waiting := {Id, Items}, host := Host} = S) ->
    log_seldom(late, warning, "~ts: the cluster is slow; events go without the number of sessions", [Host], S),
    {noreply, answered_for(Items, unknown, S#{late := true})};
handle_info({claimed, Left}, S) ->
    %% Sessions of a node that died: nobody else tells of them.
    {noreply, lists:foldl(fun({USR, Count}, Acc) -> add({gone, now_ms(), USR, Count}, Acc) end, S, Left)};
handle_info({'DOWN', _, process, Pid, _}, S) ->
    {noreply, unavailable(now_ms(), Pid, look(S))};
handle_info({handover_over, Ref, USR, At}, S) ->
    case look(S) of
        #{handover := #{USR := {Ref, _}} = Handover} = S1 ->
            {noreply, add({expire, At, Ref, USR}, S1#{handover := maps:remove(USR, Handover)})};
        S1 -> {noreply, S1}
    end;
handle_info({http, {Id, Result}}, #{sending := {Id, _, _}} = S) ->
    {noreply, answered(Result, S)};
handle_info({no_answer, Id}, #{sending := {Id, _, _}, profile := Profile} = S) ->
    httpc:cancel_request(Id, Profile),
    {noreply, answered({error, timeout}, S)};
handle_info(send_paced, S) ->
    {noreply, send(S#{paced := none})};
handle_info(send, S) ->
    {noreply, send(S#{pause := none})};
handle_info(write_again, S) ->
    {noreply, commit(S#{write_again := none})};
handle_info(open_again, S) ->
    {noreply, send(open_queue(S))};
handle_info(damaged, #{stopping := true} = S) ->
    {noreply, S};
handle_info(damaged, S) ->
    {stop, queue_damaged, S};
handle_info(tick, S) ->
    erlang:send_after(?TICK_MS, self(), tick),
    {noreply, tick(S)};
handle_info({'EXIT', Census, Reason}, #{census := Census, host := Host} = S) ->
    log(error, "~ts: counting sessions failed: ~p", [Host, Reason]),
    erlang:send_after(?DISK_RETRY_MS, self(), restart_census),
    S1 = S#{census := none, late := true},
    case S of
        #{waiting := {_, Items}} -> {noreply, answered_for(Items, unknown, S1)};
        _ -> {noreply, S1}
    end;
handle_info(restart_census, S) ->
    {noreply, start_census(S)};
handle_info(_, S) ->
    {noreply, S}.

code_change(_OldVersion, S, _Extra) ->
    {ok, S}.

%% ejabberd stops sessions and modules nearly at once. What is in the inbox and the mailbox counts; then each session
%% that the ledger still has ends with the server. Sessions live on when only this module is restarted.
terminate(_Reason, #{host := Host, profile := Profile} = S) ->
    hooks(delete, Host),
    S1 = look(pump(fun(_) -> false end, 0, S#{stopping := true})),
    S2 = case is_server_stopping(Host) of
             true -> end_all(S1);
             false -> S1
         end,
    Written = fun(#{items := I, waiting := W}) -> I =:= [] andalso W =:= none end,
    S3 = pump(Written, ?COUNT_MS, flush(S2)),
    S4 = flush(wait_no_more(S3)),
    Delivered = fun(#{sending := Sending, trouble := Trouble}) -> Sending =:= none orelse Trouble =/= none end,
    S5 = pump(Delivered, ?FAREWELL_MS, send(S4)),
    close_queue(flush(wait_no_more(S5))),
    inets:stop(httpc, Profile),
    ok.

%% What the cluster has not counted yet goes without a count.
wait_no_more(#{waiting := {_, Items}} = S) ->
    write(Items, unknown, S#{waiting := none, late := true});
wait_no_more(S) ->
    S#{late := true}.

is_server_stopping(Host) ->
    whereis(ejabberd_sm) =:= undefined orelse not lists:member(Host, ejabberd_option:hosts()).

%% Handles messages until the condition holds or the time is over; with no time, until the mailbox is empty.
pump(Done, Ms, S) ->
    pump_until(Done, in(Ms), S).

pump_until(Done, Deadline, S) ->
    case Done(S) of
        true -> S;
        false ->
            receive
                Message ->
                    {noreply, S1} = handle_info(Message, S),
                    pump_until(Done, Deadline, S1)
            after max(0, Deadline - in(0)) -> S
            end
    end.

tick(#{dropped := 0} = S) ->
    S;
tick(#{dropped := N, host := Host, logged := Logged} = S) ->
    Text = "~ts: the queue is full (queue_max): ~B events dropped since the last such line",
    case log_seldom(full, error, Text, [Host, N], S) of
        #{logged := Logged} -> S;
        Told -> Told#{dropped := 0}
    end.

%%%------------------------------------------------------------------------------------------------- sessions

available(At, Pid, USR, #{pids := Pids, jids := Jids, run := Run} = S) ->
    case maps:is_key(Pid, Pids) of
        true -> S;
        false ->
            %% A session that this one replaces may take its time to end, but ends first.
            Replaced = maps:get(USR, Jids, []),
            S1 = lists:foldl(fun(Former, Acc) -> unavailable(At, Former, Acc) end, S, Replaced),
            Ref = new_ref(Run),
            add({up, At, Ref, USR, Pid}, bind(Pid, Ref, USR, S1))
    end.

unavailable(At, Pid, S) ->
    case unbind(Pid, S) of
        {{Ref, USR}, S1} -> add({down, At, Ref, USR}, S1);
        none -> S
    end.

%% A resumed session's former process ends. If the new one told already, there is nothing left to hand over.
handed_over(At, Pid, USR, S) ->
    case unbind(Pid, S) of
        {{Ref, USR}, #{handover := Handover} = S1} ->
            Timer = erlang:send_after(?HANDOVER_MS, self(), {handover_over, Ref, USR, At}),
            S1#{handover := Handover#{USR => {Ref, Timer}}};
        none -> S
    end.

%% Neither online nor offline: the new process takes over the session's entry. If there is none on this node, the
%% session comes from another node of the cluster; whoever counts finds out.
resumed(At, Pid, USR, #{handover := Handover, jids := Jids, run := Run} = S) ->
    case {Handover, [P || P <- maps:get(USR, Jids, []), P =/= Pid]} of
        {#{USR := {Ref, Timer}}, _} ->
            erlang:cancel_timer(Timer),
            add({move, Ref, Pid}, bind(Pid, Ref, USR, S#{handover := maps:remove(USR, Handover)}));
        {_, [Former | _]} ->
            {{Ref, _}, S1} = unbind(Former, S),
            add({move, Ref, Pid}, bind(Pid, Ref, USR, S1));
        {_, []} ->
            Ref = new_ref(Run),
            add({take, At, Ref, USR, Pid}, bind(Pid, Ref, USR, S))
    end.

%% The monitor tells the end of a process that was killed without a chance to run its hooks.
bind(Pid, Ref, USR, #{pids := Pids, jids := Jids} = S) ->
    Monitor = erlang:monitor(process, Pid),
    S#{pids := Pids#{Pid => {Ref, USR, Monitor}}, jids := Jids#{USR => [Pid | maps:get(USR, Jids, [])]}}.

unbind(Pid, #{pids := Pids, jids := Jids} = S) ->
    case maps:take(Pid, Pids) of
        {{Ref, USR, Monitor}, Rest} ->
            erlang:demonitor(Monitor, [flush]),
            Jids1 = case lists:delete(Pid, maps:get(USR, Jids, [])) of
                        [] -> maps:remove(USR, Jids);
                        Others -> Jids#{USR => Others}
                    end,
            {{Ref, USR}, S#{pids := Rest, jids := Jids1}};
        error -> none
    end.

end_all(#{pids := Pids, handover := Handover} = S) ->
    At = now_ms(),
    S1 = lists:foldl(fun(Pid, Acc) -> unavailable(At, Pid, Acc) end, S, maps:keys(Pids)),
    maps:fold(fun(USR, {Ref, _}, Acc) -> add({expire, At, Ref, USR}, Acc) end, S1#{handover := #{}}, Handover).

%% At a start: which sessions of the ledger live on (only this module was stopped), which ended meanwhile, which
%% ended with the server's former run; and which came while nobody watched.
reconcile(Ledger, #{host := Host} = S) ->
    At = now_ms(),
    Present = present_sessions(Host),
    {Ours, Former} = lists:partition(fun({Ref, _}) -> is_of_this_run(Ref, S) end, maps:to_list(Ledger)),
    Known = maps:from_list([{Pid, known} || {_, {_, Pid, _}} <- Ours]),
    Newcomers = maps:from_list([{USR, Pid} || {Pid, USR} <- maps:to_list(maps:without(maps:keys(Known), Present))]),
    S1 = lists:foldl(fun(Entry, Acc) -> live_on(At, Entry, Present, Newcomers, Acc) end, S, Ours),
    %% First of all of them that they were there: so the users' counts go down one by one.
    Revived = [{revive, Ref, USR} || {Ref, {USR, _, _}} <- Former],
    Dead = [{dead, At, Ref, USR, Seq} || {Ref, {USR, _, Seq}} <- Former],
    S2 = lists:foldl(fun add/2, S1, Revived ++ Dead),
    maps:fold(fun(Pid, USR, Acc) -> available(At, Pid, USR, Acc) end, S2, Present).

is_of_this_run({Node, Run, _}, #{run := Run}) -> Node =:= node();
is_of_this_run(_, _) -> false.

%% A session of the same address in another process was resumed while nobody watched.
live_on(At, {Ref, {USR, Pid, _}}, Present, Newcomers, #{pids := Pids} = S) ->
    case {is_map_key(Pid, Present) andalso not is_map_key(Pid, Pids), Newcomers} of
        {true, _} -> bind(Pid, Ref, USR, S);
        {false, #{USR := New}} when not is_map_key(New, Pids) -> add({move, Ref, New}, bind(New, Ref, USR, S));
        _ -> add({down, At, Ref, USR}, S)
    end.

%% The available sessions of this node.
present_sessions(Host) ->
    Users = lists:usort([User || {User, _, _} <- ejabberd_sm:get_vh_session_list(Host)]),
    maps:from_list([{Pid, {User, Host, Resource}}
                    || User <- Users,
                       {Resource, Info} <- ejabberd_sm:get_user_info(User, Host),
                       is_integer(proplists:get_value(priority, Info)),
                       Pid <- [proplists:get_value(pid, Info)], node(Pid) =:= node(), is_process_alive(Pid)]).

new_ref(Run) ->
    {node(), Run, erlang:unique_integer([positive])}.

%%%-------------------------------------------------------------------------------------- items, counts, numbers

add(Item, #{items := Items} = S) ->
    arm(in(?GROUP_MS), S#{items := [Item | Items]}).

%% When to flush, as erlang:monotonic_time(millisecond) has it. Only ever shortens the wait.
arm(At, #{timer := none} = S) ->
    S#{timer := {erlang:send_after(At, self(), flush, [{abs, true}]), At}};
arm(At, #{timer := {Timer, Later}} = S) when At < Later ->
    erlang:cancel_timer(Timer),
    arm(At, S#{timer := none});
arm(_, S) ->
    S.

%% Takes what the hooks have put into the inbox, in the order of its keys, which count up. One by one, for a lock that is
%% held for longer keeps sessions waiting. A key that was counted may come a moment later: it is looked for again each
%% time. What its session does next has a higher key and comes after it, so nothing is taken before what a session did
%% earlier. What comes in after the beginning of this tells anew.
look(#{gauge := Gauge, inbox := Inbox, seen := Seen, missing := Missing} = S) ->
    atomics:put(Gauge, ?TOLD, 0),
    Last = atomics:get(Gauge, ?PUT),
    {Found, Missing1} = take_all(Missing ++ lists:seq(Seen + 1, Last), Inbox, [], []),
    S1 = S#{seen := Last, missing := Missing1},
    case Found of
        [] -> S1;
        _ -> seen_all(Found, arm(in(?GROUP_MS), S1))
    end.

take_all([], _, Found, Missing) ->
    {lists:reverse(Found), lists:reverse(Missing)};
take_all([Key | Keys], Inbox, Found, Missing) ->
    case ets:take(Inbox, Key) of
        [{_, Item}] -> take_all(Keys, Inbox, [Item | Found], Missing);
        [] -> take_all(Keys, Inbox, Found, [Key | Missing])
    end.

%% Messages are most of it, and are their JSON and nothing else: a tuple around it costs a quarter of the inbox. The state, a
%% map of thirty keys, is not copied for each of them.
seen_all([], S) ->
    S;
seen_all(Found, #{items := Items} = S) ->
    case messages(Found, Items) of
        {[Item | Rest], Items1} -> seen_all(Rest, seen(Item, S#{items := Items1}));
        {[], Items1} -> S#{items := Items1}
    end.

messages([Json | Found], Items) when is_binary(Json) -> messages(Found, [Json | Items]);
messages(Found, Items) -> {Found, Items}.

seen({available, At, Pid, USR}, S) -> available(At, Pid, USR, S);
seen({unavailable, At, Pid, _}, S) -> unavailable(At, Pid, S);
seen({handed_over, At, Pid, USR}, S) -> handed_over(At, Pid, USR, S);
seen({resumed, At, Pid, USR}, S) -> resumed(At, Pid, USR, S);
seen(Item, S) -> add(Item, S).

%% One group at a time is with the census; the next gathers meanwhile.
flush(#{queue := none} = S) ->
    (look(S))#{timer := none};
flush(#{waiting := {_, _}} = S) ->
    S#{timer := none};
flush(S0) ->
    #{items := Reversed, asked := Asked, late := Late, counted := Counted, census := Census} = S1 = look(S0),
    S = S1#{items := [], timer := none},
    Items = lists:reverse(Reversed),
    case [Op || Item <- Items, Op <- question(Item)] of
        [] -> write(Items, [], S);
        Ops when Census =:= none; Late ->
            ask(Asked + 1, Ops, S),
            write(Items, unknown, S#{asked := Asked + 1});
        Ops ->
            ask(Asked + 1, Ops, S),
            Bound = case Counted of
                        true -> ?COUNT_MS;
                        false -> ?FIRST_COUNT_MS
                    end,
            erlang:send_after(Bound, self(), {count_late, Asked + 1}),
            S#{waiting := {Asked + 1, Items}, asked := Asked + 1, asked_at := in(0)}
    end.

ask(Id, Ops, #{census := Census}) when is_pid(Census) ->
    Census ! {count, Id, Ops},
    ok;
ask(_, _, _) ->
    ok.

counted(Id, Counts, #{waiting := {Id, Items}} = S) ->
    answered_for(Items, Counts, S#{counted := true});
counted(Id, _, #{asked := Id} = S) ->
    S#{late := false, counted := true};
counted(_, _, S) ->
    S.

%% And goes on with what has gathered meanwhile: at once, if it had its time.
answered_for(Items, Counts, #{asked_at := At} = S) ->
    arm(At + ?GROUP_MS, write(Items, Counts, S#{waiting := none})).

%% What the census is asked for an item; each question has one answer, in the same order.
question({up, _, Ref, {U, H, R}, _}) -> [{up, Ref, {U, H}, R}];
question({take, _, Ref, {U, H, R}, _}) -> [{take, Ref, {U, H}, R}];
question({down, _, Ref, {U, H, _}}) -> [{down, Ref, {U, H}}];
question({expire, _, Ref, {U, H, _}}) -> [{expire, Ref, {U, H}}];
question({dead, _, Ref, {U, H, _}, _}) -> [{expire, Ref, {U, H}}];
question({revive, Ref, {U, H, R}}) -> [{revive, Ref, {U, H}, R}];
question(_) -> [].

%% Gives the events their numbers and commits them, unless the disk is not to be tried again yet. `Counts` are the
%% census's answers, or `unknown` for all. `unwritten` has the operations in groups, the newest first.
write(Items, Counts, S) ->
    {Ops, #{unwritten := Unwritten, next := Next} = S1} = write_items(Items, Counts, [], S),
    S2 = S1#{unwritten := [lists:reverse([{next, Next} | Ops]) | Unwritten]},
    case S2 of
        #{write_again := Timer, stopping := false} when Timer =/= none -> S2;
        _ -> commit(S2)
    end.

write_items([], _, Ops, S) ->
    {Ops, S};
write_items([Json | _] = Items, Counts, Ops, #{next := Next} = S) when is_binary(Json) ->
    {Rest, Piece} = gather(Items, Next, <<>>, [], 0),
    write_items(Rest, Counts, [{events, Piece} | Ops], S#{next := last(Piece) + 1});
write_items([Item | Items], Counts, Ops, S) ->
    {Count, Rest} = case {question(Item), Counts} of
                        {[_], [First | Others]} -> {First, Others};
                        {[_], unknown} -> {unknown, unknown};
                        {[], _} -> {none, Counts}
                    end,
    case op(Item, Count, S) of
        {none, S1} -> write_items(Items, Rest, Ops, S1);
        {Op, S1} -> write_items(Items, Rest, [Op | Ops], S1)
    end.

%% Messages in a row become one piece: of thousands of small binaries, every garbage collection would copy each one's
%% reference until the daemon has it.
gather([Json | Items], First, Sizes, Jsons, Bytes) when is_binary(Json), Bytes < ?PIECE_BYTES ->
    Size = byte_size(Json),
    gather(Items, First, <<Sizes/binary, Size:32>>, [Json | Jsons], Bytes + Size + 1);
gather(Items, First, Sizes, Jsons, _) ->
    {Items, {First, Sizes, iolist_to_binary(lists:join($,, lists:reverse(Jsons)))}}.

op({up, At, Ref, USR, Pid}, Count, S) ->
    {Seq, Json, S1} = presence(At, USR, true, Count, S),
    {{up, Ref, USR, Pid, Seq, Json}, S1};
op({take, _, Ref, USR, Pid}, taken, S) ->
    {{up, Ref, USR, Pid, 0, none}, S};
op({take, At, Ref, USR, Pid}, Count, S) ->
    op({up, At, Ref, USR, Pid}, Count, S);
op({move, Ref, Pid}, _, S) ->
    {{move, Ref, Pid}, S};
op({down, At, Ref, USR}, Count, S) ->
    {Seq, Json, S1} = presence(At, USR, false, Count, S),
    {{down, Ref, Seq, Json}, S1};
%% Another node has taken the session, and tells of its end.
op({expire, _, Ref, _}, {gone, _}, S) ->
    {{down, Ref, 0, none}, S};
op({expire, At, Ref, USR}, Count, S) ->
    op({down, At, Ref, USR}, Count, S);
%% Another node has told that the session ended, when this one died. But if the daemon has not heard from us yet that
%% it began, it will hear that only now, and must hear the end after it.
op({dead, _, Ref, _, Seq}, {gone, _}, #{queue := #{acked := Acked}} = S) when Seq =< Acked ->
    {{down, Ref, 0, none}, S};
op({dead, At, Ref, USR, _}, {gone, Left}, S) ->
    op({down, At, Ref, USR}, {ok, Left}, S);
op({dead, At, Ref, USR, _}, Count, S) ->
    op({down, At, Ref, USR}, Count, S);
op({gone, At, USR, Count}, _, S) ->
    case presence(At, USR, false, {ok, Count}, S) of
        {0, none, S1} -> {none, S1};
        {Seq, Json, S1} -> {{events, piece(Seq, Json)}, S1}
    end;
%% What the hooks had to drop uses up its numbers.
op(dropped, _, #{gauge := Gauge, next := Next, dropped := Dropped} = S) ->
    N = atomics:exchange(Gauge, ?DROPPED, 0),
    {none, S#{next := Next + N, dropped := Dropped + N}};
op({revive, _, _}, _, S) ->
    {none, S};
op({ack, Seq}, _, S) ->
    {{ack, Seq}, S}.

presence(At, {_, Host, _} = USR, Present, Count, #{dropped := Dropped, gauge := Gauge} = S) ->
    {Seq, S1} = number(S),
    case admit(Gauge) of
        true ->
            Sessions = case Count of
                           {ok, N} -> [<<",\"sessions\":">>, integer_to_binary(N)];
                           unknown -> []
                       end,
            Json = [<<"{\"kind\":\"presence\",\"at\":">>, integer_to_binary(At), <<",\"host\":">>, text(Host),
                    <<",\"jid\":">>, text(jid:encode(USR)), <<",\"present\":">>, atom_to_binary(Present, utf8),
                    Sessions, $}],
            {Seq, iolist_to_binary(Json), S1};
        false ->
            {0, none, S1#{dropped := Dropped + 1}}
    end.

number(#{next := Next} = S) ->
    {Next, S#{next := Next + 1}}.

commit(#{unwritten := [[{next, Next}]], queue := #{next := Next}} = S) ->
    S#{unwritten := []};
commit(#{unwritten := []} = S) ->
    S;
commit(#{queue := none} = S) ->
    S;
commit(#{unwritten := Unwritten, queue := Queue, host := Host} = S) ->
    case append(lists:append(lists:reverse(Unwritten)), Queue) of
        {ok, Queue1} ->
            S1 = send(S#{queue := Queue1, unwritten := []}),
            log_once_again(disk, "~ts: events are written to disk again", [Host], S1);
        {error, Reason, Queue1} ->
            Timer = erlang:send_after(?DISK_RETRY_MS, self(), write_again),
            log_seldom(disk, error, "~ts: can't write events to disk (~ts), keeping them in memory",
                       [Host, file:format_error(Reason)], S#{queue := Queue1, write_again := Timer})
    end.

%%%-------------------------------------------------------------------------------------------------- delivery

send(#{sending := none, pause := none, queue := Queue, limit := Limit} = S) when Queue =/= none ->
    case is_early(S) of
        true -> pace(S);
        false ->
            case batch(Limit, Queue) of
                {error, Reason} -> unreadable(Reason, S);
                {[], Queue1} -> S#{queue := Queue1};
                {Pieces, Queue1} -> post(Pieces, S#{queue := Queue1})
            end
    end;
send(S) ->
    S.

is_early(#{stopping := true}) ->
    false;
is_early(#{gauge := Gauge, limit := Limit, not_before := NotBefore}) ->
    atomics:get(Gauge, ?HELD) < Limit andalso in(0) < NotBefore.

pace(#{paced := none, not_before := NotBefore} = S) ->
    S#{paced := erlang:send_after(NotBefore, self(), send_paced, [{abs, true}])};
pace(S) ->
    S.

not_before(Count) when Count < ?BUSY_EVENTS -> in(0);
not_before(_) -> in(?BUSY_MS).

post([{First, _, _} | _] = Pieces, S) ->
    #{url := Url, headers := Headers, timeout := Timeout, profile := Profile, queue := Queue} = S,
    #{source := Source, epoch := Epoch} = Queue,
    Body = ["{\"source\":", text(Source), ",\"epoch\":", text(Epoch), ",\"first_seq\":", integer_to_binary(First),
            ",\"events\":[", lists:join($,, [Json || {_, _, Json} <- Pieces]), "]}"],
    Request = {Url, Headers, "application/json", Body},
    HttpOptions = [{timeout, Timeout}, {connect_timeout, ?CONNECT_MS}, {autoredirect, false} | tls(Url)],
    try httpc:request(post, Request, HttpOptions, [{sync, false}, {body_format, binary}], Profile) of
        {ok, Id} ->
            %% A timer of our own as well: a batch that nobody answers for would stop the delivery for ever.
            Timer = erlang:send_after(Timeout + ?CONNECT_MS, self(), {no_answer, Id}),
            S#{sending := {Id, Pieces, Timer}, not_before := not_before(count(Pieces))};
        {error, Reason} -> failed({error, Reason}, S)
    catch
        exit:Reason -> failed({error, Reason}, S#{profile := start_http(S)})
    end.

answered(Result, #{sending := {_, Pieces, Timer}} = S) ->
    erlang:cancel_timer(Timer),
    S1 = S#{sending := none},
    case verdict(Result, count(Pieces)) of
        accepted ->
            log_rejected(Result, S1),
            forget(Pieces, recovered(S1));
        {smaller, Limit} ->
            send(S1#{limit := Limit});
        impossible ->
            [{Seq, _, Json}] = Pieces,
            log(error, "~ts: event ~B (~B bytes) is larger than the daemon takes, and is lost",
                [maps:get(host, S1), Seq, byte_size(Json)]),
            forget(Pieces, S1);
        _ -> failed(Result, S1)
    end.

%% Anything between here and the daemon may say 200. Only the daemon says what it accepted.
verdict({{_, 200, _}, _, Body}, _) ->
    case re:run(Body, <<"\"accepted\"\\s*:\\s*\\d">>, [{capture, none}]) of
        match -> accepted;
        nomatch -> backoff
    end;
verdict({{_, 413, _}, _, _}, 1) -> impossible;
verdict({{_, 413, _}, _, _}, N) -> {smaller, N div 2};
verdict({{_, Status, _}, _, _}, _) when Status =:= 400; Status =:= 401 -> slow;
verdict({{_, 503, _}, Headers, _}, _) ->
    case string:to_integer(proplists:get_value("retry-after", Headers, "")) of
        {Seconds, _} when is_integer(Seconds), Seconds >= 0 -> {later, min(Seconds, 600) * 1000};
        _ -> backoff
    end;
verdict(_, _) -> backoff.

forget(Pieces, #{queue := Queue, gauge := Gauge, limit := Limit, items := Items} = S) ->
    Last = last(lists:last(Pieces)),
    atomics:sub(Gauge, ?HELD, count(Pieces)),
    S1 = arm(in(?ACK_MS), S#{queue := acknowledge(Last, Queue), items := [{ack, Last} | Items],
                             limit := min(?BATCH_EVENTS, Limit * 2), backoff := ?BACKOFF_MIN_MS}),
    send(S1).

failed(Result, #{backoff := Backoff, slow_retry := Slow} = S) ->
    S1 = log_trouble(Result, S),
    case verdict(Result, 2) of
        slow -> pause(Slow, S1);
        {later, Ms} -> pause(max(Ms, ?BACKOFF_MIN_MS), S1);
        _ -> pause(Backoff div 2 + rand:uniform(Backoff), S1#{backoff := min(Backoff * 2, ?BACKOFF_MAX_MS)})
    end.

pause(Ms, S) ->
    S#{pause := erlang:send_after(Ms, self(), send)}.

resume_sending(#{pause := none} = S) ->
    S;
resume_sending(#{pause := Timer} = S) ->
    erlang:cancel_timer(Timer),
    S#{pause := none, backoff := ?BACKOFF_MIN_MS}.

%% Once for each trouble, not for each attempt.
log_trouble(Result, #{host := Host, url := Url, trouble := Trouble} = S) ->
    {Kind, Level, Text} = trouble(Result),
    Kind =:= Trouble orelse
        log(Level, "~ts: can't deliver events to ~ts: ~ts; keeping them and trying again", [Host, Url, Text]),
    S#{trouble := Kind}.

recovered(#{trouble := none} = S) ->
    S;
recovered(#{host := Host, url := Url, gauge := Gauge} = S) ->
    log(notice, "~ts: events are delivered again to ~ts, ~B were waiting", [Host, Url, atomics:get(Gauge, ?HELD)]),
    S#{trouble := none}.

trouble({{_, 401, _}, _, _}) -> {401, error, "it refuses the secret (status 401)"};
trouble({{_, 400, _}, _, Body}) ->
    {400, error, io_lib:format("it says that the batch is wrong (status 400): ~ts", [clip(Body)])};
trouble({{_, 200, _}, _, _}) -> {200, warning, "status 200, but not the daemon's answer"};
trouble({{_, Status, _}, _, _}) -> {Status, warning, io_lib:format("it answers ~B", [Status])};
trouble({error, {failed_connect, Details}}) ->
    Why = element(3, lists:last([{x, x, unknown} | Details])),
    {{unreachable, Why}, warning, io_lib:format("no connection (~0p)", [Why])};
trouble({error, timeout}) -> {timeout, warning, "no answer"};
trouble({error, Reason}) -> {{broken, Reason}, warning, io_lib:format("~0p", [Reason])}.

%% Reasons only: they tell what is wrong with an event, not what is in it.
log_rejected({_, _, Body}, #{host := Host}) ->
    case re:run(Body, <<"\"rejected\"\\s*:\\s*\\[\\s*(\\{.*)\\]">>, [dotall, {capture, [1], binary}]) of
        {match, [Reasons]} -> log(warning, "~ts: the daemon refused events: ~ts", [Host, clip(Reasons)]);
        nomatch -> ok
    end.

clip(Text) ->
    binary:part(Text, 0, min(500, byte_size(Text))).

%% A client of our own, so that no one else's requests or settings meet ours.
start_http(#{host := Host}) ->
    Profile = proc(Host),
    {ok, _} = application:ensure_all_started(inets),
    {ok, _} = application:ensure_all_started(ssl),
    _ = inets:start(httpc, [{profile, Profile}]),
    %% Idle connections end soon: reusing one that the daemon is closing would look like a failure.
    _ = httpc:set_options([{keep_alive_timeout, 3000}, {ipfamily, inet6fb4}], Profile),
    Profile.

%% ejabberd's own option ca_file says whom to trust (by default the system's store); OTP's store stands in for it.
tls("https" ++ _) ->
    Match = public_key:pkix_verify_hostname_match_fun(https),
    [{ssl, [{verify, verify_peer}, {depth, 10}, {customize_hostname_check, [{match_fun, Match}]} | trusted()]}];
tls(_) ->
    [].

trusted() ->
    File = ejabberd_option:ca_file(),
    case filelib:is_regular(File) of
        true -> [{cacertfile, File}];
        false ->
            case erlang:function_exported(public_key, cacerts_get, 0) of
                true -> [{cacerts, apply(public_key, cacerts_get, [])}];
                false -> [{cacerts, []}]
            end
    end.

%%%----------------------------------------------------------------------------------------- the queue on disk
%%%
%%% A folder of segment files. A segment is a series of groups, <<Size:32, Crc:32, Payload:Size/binary>>, the payload
%%% being a list of operations in Erlang's external format. A group is written and synced before the next one begins,
%%% so at most the last group of the last segment can be torn, and nothing of that one was ever sent.
%%% A segment begins with `head`: all that is needed when the segments before it are gone, the ledger among it.
%%%
%%%   {head, Version, Source, Epoch, Next, Acked, [{Ref, {USR, Pid, Seq}}]}
%%%   {events, {First, Sizes, Json}}      a piece: messages in a row, their JSON with commas between and how long each is
%%%   {event, Seq, Json}                  a message; only in queues of this adapter's first version
%%%   {up, Ref, USR, Pid, Seq, Json}      a session; Seq 0 and Json none where there is no event to send
%%%   {move, Ref, Pid}                    its process is another one now
%%%   {down, Ref, Seq, Json}              its end; likewise
%%%   {ack, Seq}                          the daemon has all up to here
%%%   {next, Seq}                         the numbers go on here

open_queue(#{host := Host, gauge := Gauge} = S) ->
    Dir = filename:join([mnesia:system_info(directory), "event_pusher", unicode:characters_to_list(Host)]),
    try open(Dir, Host) of
        #{next := Next, ledger := Ledger, undelivered := Undelivered} = Queue ->
            atomics:add(Gauge, ?HELD, Undelivered),
            Undelivered > 0 andalso log(notice, "~ts: ~B events wait for delivery", [Host, Undelivered]),
            %% What was dropped meanwhile may have left its marker with a process that is gone.
            arm(in(0), add(dropped, reconcile(Ledger, S#{queue := Queue, next := Next})))
    catch
        throw:{file, Path, Reason} ->
            erlang:send_after(?DISK_RETRY_MS, self(), open_again),
            log_seldom(open, error, "~ts: can't open the queue (~ts: ~ts), keeping events in memory",
                       [Host, Path, file:format_error(Reason)], S)
    end.

%% What was committed can't be read. Starting again finds out what is left of it. The pause keeps a disk that fails
%% at each attempt from using up the restarts that the supervisor allows.
unreadable(Reason, #{host := Host, queue := #{dir := Dir}} = S) ->
    log(error, "~ts: can't read the queue ~ts: ~0p", [Host, Dir, Reason]),
    S#{pause := erlang:send_after(?DISK_RETRY_MS, self(), damaged)}.

open(Dir, Host) ->
    ok = must(Dir, filelib:ensure_dir(filename:join(Dir, "x"))),
    case segments(Dir) of
        [] -> create(Dir, Host);
        Numbers ->
            case replay(Dir, Numbers) of
                {ok, Queue} -> Queue;
                empty -> create(Dir, Host);
                {damaged, Path, Offset} ->
                    log(error, "~ts: ~ts is damaged at byte ~B; beginning a new queue", [Host, Path, Offset]),
                    salvage(Dir, Numbers, Host)
            end
    end.

segments(Dir) ->
    Names = must(Dir, file:list_dir(Dir)),
    lists:sort([list_to_integer(filename:basename(Name, ".seg"))
                || Name <- Names, filename:extension(Name) =:= ".seg"]).

path(Dir, Number) ->
    filename:join(Dir, io_lib:format("~10..0B.seg", [Number])).

create(Dir, Host) ->
    [ok = must(path(Dir, No), file:delete(path(Dir, No))) || No <- segments(Dir)],
    Queue = #{dir => Dir, source => source(Host), epoch => random_hex(), next => 1, acked => 0, ledger => #{},
              segments => #{}, fd => none, number => 0, size => 0, undelivered => 0,
              reader => none, window => [], window_bytes => 0},
    case new_segment(Queue) of
        {ok, Queue1} -> Queue1#{reader := {1, 0, none}};
        {error, Reason} -> throw({file, Dir, Reason})
    end.

%% Stable for this node and virtual host. Most servers' node is called ejabberd@localhost, which says nothing.
source(Host) ->
    [Name, NodeHost] = string:split(atom_to_list(node()), "@"),
    Machine = case NodeHost of
                  Local when Local =:= "localhost"; Local =:= "nohost" ->
                      {ok, Hostname} = inet:gethostname(),
                      Hostname;
                  Named -> Named
              end,
    Source = unicode:characters_to_binary(["ejabberd/", Host, $/, Name, $@, Machine]),
    case string:length(Source) =< 256 of
        true -> Source;
        false -> <<"ejabberd/", (integer_to_binary(erlang:phash2(Source), 16))/binary>>
    end.

%% A new segment takes over, so that the ones before it can go once their events are delivered.
new_segment(#{dir := Dir, number := Number, fd := Former, segments := Segments} = Queue) ->
    #{source := Source, epoch := Epoch, next := Next, acked := Acked, ledger := Ledger} = Queue,
    Path = path(Dir, Number + 1),
    Head = group([{head, 1, Source, Epoch, Next, Acked, maps:to_list(Ledger)}]),
    case file:open(Path, [read, write, raw, binary]) of
        {ok, Fd} ->
            case write_at(Fd, 0, Head) of
                ok ->
                    Former =/= none andalso file:close(Former),
                    {ok, Queue#{fd := Fd, number := Number + 1, size := iolist_size(Head),
                                segments := Segments#{Number + 1 => 0}}};
                {error, Reason} ->
                    _ = file:close(Fd),
                    _ = file:delete(Path),
                    {error, Reason}
            end;
        {error, Reason} -> {error, Reason}
    end.

group(Ops) ->
    Payload = term_to_binary(Ops),
    [<<(byte_size(Payload)):32, (erlang:crc32(Payload)):32>>, Payload].

%% After a failure nothing of it may stay: what comes next is written to the same place.
write_at(Fd, Offset, Data) ->
    case file:pwrite(Fd, Offset, Data) of
        ok ->
            case file:datasync(Fd) of
                ok -> ok;
                {error, Reason} -> cut(Fd, Offset, Reason)
            end;
        {error, Reason} -> cut(Fd, Offset, Reason)
    end.

cut(Fd, Offset, Reason) ->
    {ok, _} = file:position(Fd, Offset),
    _ = file:truncate(Fd),
    {error, Reason}.

append(Ops, Queue) ->
    #{fd := Fd, number := Number, size := Size, segments := Segments} = Queue1 = roll(Queue),
    Pieces = pieces(Ops),
    Bytes = bytes(Pieces),
    Data = [group(Part) || Part <- parts(Ops, Bytes)],
    case write_at(Fd, Size, Data) of
        ok ->
            Written = iolist_size(Data),
            Queue2 = look_ahead(Pieces, Bytes, Written, apply_ops(Ops, Queue1)),
            Last = case Pieces of
                       [] -> map_get(Number, Segments);
                       _ -> last(lists:last(Pieces))
                   end,
            {ok, Queue2#{size := Size + Written, segments := Segments#{Number := Last}}};
        {error, Reason} -> {error, Reason, Queue1}
    end.

%% The larger the ledger, the larger the segments, so that copying it never is most of the work.
roll(#{size := Size, ledger := Ledger} = Queue) ->
    case Size > max(?SEGMENT_BYTES, 500 * map_size(Ledger)) of
        true ->
            case new_segment(Queue) of
                {ok, Queue1} -> sweep(Queue1);
                {error, _} -> Queue
            end;
        false -> Queue
    end.

%% Groups of a size that is good to read. An event and its change to the ledger are one operation, so any cut is right.
parts(Ops, Bytes) when Bytes =< ?GROUP_BYTES ->
    [Ops];
parts(Ops, _) ->
    parts(Ops, [], 0, []).

parts([], Part, _, Parts) ->
    lists:reverse([lists:reverse(Part) | Parts]);
parts([Op | Ops], Part, Bytes, Parts) when Bytes > ?GROUP_BYTES ->
    parts(Ops, [Op], op_bytes(Op), [lists:reverse(Part) | Parts]);
parts([Op | Ops], Part, Bytes, Parts) ->
    parts(Ops, [Op | Part], Bytes + op_bytes(Op), Parts).

op_bytes(Op) ->
    100 + bytes(pieces([Op])).

%% In the order of their numbers.
pieces(Ops) ->
    lists:flatmap(fun pieces_of/1, Ops).

pieces_of({events, Piece}) -> [Piece];
pieces_of({event, Seq, Json}) -> [piece(Seq, Json)];
pieces_of({up, _, _, _, Seq, Json}) when Seq > 0 -> [piece(Seq, Json)];
pieces_of({down, _, Seq, Json}) when Seq > 0 -> [piece(Seq, Json)];
pieces_of(_) -> [].

piece(Seq, Json) ->
    {Seq, <<(byte_size(Json)):32>>, Json}.

last({First, Sizes, _}) ->
    First + byte_size(Sizes) div 4 - 1.

%% How many events.
count(Pieces) ->
    lists:sum([byte_size(Sizes) div 4 || {_, Sizes, _} <- Pieces]).

bytes(Pieces) ->
    lists:sum([byte_size(Json) || {_, _, Json} <- Pieces]).

%% The first N events of a piece, and the others; neither are none.
split(N, {First, Sizes, Json}) ->
    <<Left:N/binary-unit:32, Right/binary>> = Sizes,
    Bytes = lists:sum([Size || <<Size:32>> <= Left]) + N - 1,
    <<LeftJson:Bytes/binary, $,, RightJson/binary>> = Json,
    {{First, Left, LeftJson}, {First + N, Right, RightJson}}.

%% The events with higher numbers than this one.
beyond(Seq, Pieces) ->
    [case Piece of
         {First, _, _} when First > Seq -> Piece;
         {First, _, _} -> element(2, split(Seq - First + 1, Piece))
     end || Piece <- Pieces, last(Piece) > Seq].

apply_ops(Ops, Queue) ->
    lists:foldl(fun apply_op/2, Queue, Ops).

apply_op({head, 1, Source, Epoch, Next, Acked, Ledger}, Queue) ->
    Queue#{source => Source, epoch => Epoch, next => Next, acked => max(Acked, maps:get(acked, Queue, 0)),
           ledger => maps:from_list(Ledger)};
apply_op({events, Piece}, Queue) ->
    Queue#{next := last(Piece) + 1};
apply_op({event, Seq, _}, Queue) ->
    Queue#{next := Seq + 1};
apply_op({up, Ref, USR, Pid, Seq, _}, #{ledger := Ledger} = Queue) ->
    numbered(Seq, Queue#{ledger := Ledger#{Ref => {USR, Pid, Seq}}});
apply_op({move, Ref, Pid}, #{ledger := Ledger} = Queue) ->
    case Ledger of
        #{Ref := {USR, _, Seq}} -> Queue#{ledger := Ledger#{Ref := {USR, Pid, Seq}}};
        _ -> Queue
    end;
apply_op({down, Ref, Seq, _}, #{ledger := Ledger} = Queue) ->
    numbered(Seq, Queue#{ledger := maps:remove(Ref, Ledger)});
apply_op({ack, Seq}, #{acked := Acked} = Queue) ->
    Queue#{acked := max(Seq, Acked)};
apply_op({next, Next}, Queue) ->
    Queue#{next := Next}.

numbered(0, Queue) -> Queue;
numbered(Seq, Queue) -> Queue#{next := Seq + 1}.

%% The next events to send: without a hole in their numbers, within the limits of a batch.
batch(Limit, Queue) ->
    case fill(Limit, Queue) of
        {error, Reason} -> {error, Reason};
        #{window := []} = Queue1 -> {[], Queue1};
        #{window := [{First, _, _} | _] = Window} = Queue1 -> {take(Window, First, Limit, ?BATCH_BYTES), Queue1}
    end.

take([{Seq, Sizes, Json} = Piece | Window], Seq, Limit, Room) ->
    Count = count([Piece]),
    %% One event that is larger than a batch goes alone.
    Least = case Room of
                ?BATCH_BYTES -> 1;
                _ -> 0
            end,
    case max(Least, fitting(Sizes, Limit, Room, 0)) of
        Count -> [Piece | take(Window, Seq + Count, Limit - Count, Room - byte_size(Json) - 1)];
        0 -> [];
        N -> [element(1, split(N, Piece))]
    end;
take(_, _, _, _) ->
    [].

%% How many of the first events the limits of a batch still allow.
fitting(<<Size:32, Sizes/binary>>, Limit, Room, N) when N < Limit, Room > Size ->
    fitting(Sizes, Limit, Room - Size - 1, N + 1);
fitting(_, _, _, N) ->
    N.

%% The window is what was read and is not acknowledged yet: a batch, and what else was in the same groups.
fill(Limit, #{window := Window, window_bytes := Bytes} = Queue) when Bytes < ?BATCH_BYTES ->
    case count(Window) < Limit andalso read_group(Queue) of
        {ok, Ops, #{acked := Acked} = Queue1} ->
            Pieces = beyond(Acked, pieces(Ops)),
            fill(Limit, widen(Pieces, bytes(Pieces), Queue1));
        {error, Reason} -> {error, Reason};
        _ -> Queue
    end;
fill(_, Queue) ->
    Queue.

%% What is just being written need not be read again, where the reader has come that far and the window has room.
look_ahead(Pieces, Bytes, Size, #{reader := {Number, Offset, Fd}, number := Number, size := Offset} = Queue)
  when Size + map_get(window_bytes, Queue) < ?AHEAD_BYTES ->
    widen(Pieces, Bytes, Queue#{reader := {Number, Offset + Size, Fd}});
look_ahead(_, _, _, Queue) ->
    Queue.

widen(Pieces, Bytes, #{window := Window, window_bytes := Before} = Queue) ->
    Queue#{window := Window ++ Pieces, window_bytes := Before + Bytes}.

read_group(#{reader := {Number, Offset, _}, number := Number, size := Offset}) ->
    eof;
read_group(#{reader := {Number, Offset, none}, dir := Dir} = Queue) ->
    case file:open(path(Dir, Number), [read, raw, binary]) of
        {ok, Fd} -> read_group(Queue#{reader := {Number, Offset, Fd}});
        {error, Reason} -> {error, Reason}
    end;
read_group(#{reader := {Number, Offset, Fd}, number := Last, segments := Segments} = Queue) ->
    case read_at(Fd, Offset) of
        {ok, Ops, Next} -> {ok, Ops, Queue#{reader := {Number, Next, Fd}}};
        eof when Number < Last ->
            _ = file:close(Fd),
            Following = lists:min([N || N <- maps:keys(Segments), N > Number]),
            read_group(Queue#{reader := {Following, 0, none}});
        Other -> {error, Other}
    end.

read_at(Fd, Offset) ->
    case file:pread(Fd, Offset, 8) of
        {ok, <<Size:32, Crc:32>>} ->
            case file:pread(Fd, Offset + 8, Size) of
                {ok, <<Payload:Size/binary>>} ->
                    case erlang:crc32(Payload) of
                        Crc when Size > 0 -> {ok, binary_to_term(Payload), Offset + 8 + Size};
                        _ -> {bad, Offset + 8 + Size}
                    end;
                {ok, _} -> {bad, Offset + 8 + Size};
                eof -> {bad, Offset + 8 + Size};
                {error, Reason} -> {error, Reason}
            end;
        {ok, _} -> {bad, Offset + 8};
        eof -> eof;
        {error, Reason} -> {error, Reason}
    end.

acknowledge(Last, #{window := Window} = Queue) ->
    Rest = beyond(Last, Window),
    sweep(Queue#{window := Rest, window_bytes := bytes(Rest), acked := Last}).

%% Deletes the segments that no longer hold an event to deliver.
sweep(#{dir := Dir, number := Number, segments := Segments, acked := Acked, reader := Reader} = Queue) ->
    Gone = [No || {No, Last} <- maps:to_list(Segments), No < Number, Last =< Acked],
    [_ = file:delete(path(Dir, No)) || No <- Gone],
    Kept = maps:without(Gone, Segments),
    case Reader of
        {No, _, Fd} when not is_map_key(No, Kept) ->
            Fd =/= none andalso file:close(Fd),
            Queue#{segments := Kept, reader := {lists:min([N || N <- maps:keys(Kept), N > No]), 0, none}};
        _ -> Queue#{segments := Kept}
    end.

close_queue(#{queue := none}) ->
    ok;
close_queue(#{queue := #{fd := Fd, reader := {_, _, Reader}}}) ->
    Reader =/= none andalso file:close(Reader),
    file:close(Fd).

%% Reads all that is there: the queue as it was, or where it is damaged.
replay(Dir, Numbers) ->
    replay(Dir, Numbers, #{dir => Dir, segments => #{}, reader => {hd(Numbers), 0, none}, window => [],
                           window_bytes => 0, numbers => []}).

replay(Dir, [Number | Numbers], #{segments := Segments, numbers := Before} = Queue) ->
    Path = path(Dir, Number),
    Fd = must(Path, file:open(Path, [read, write, raw, binary])),
    case replay_segment(Fd, 0, Numbers =:= [], Queue#{numbers := []}) of
        {ok, #{numbers := Here} = Queue1, Size} when Size > 0 ->
            Queue2 = Queue1#{segments := Segments#{Number => lists:max([0 | [Last || {_, Last} <- Here]])},
                             numbers := Here ++ Before},
            case Numbers of
                [] -> {ok, replayed(Fd, Number, Size, Queue2)};
                _ ->
                    ok = file:close(Fd),
                    replay(Dir, Numbers, Queue2)
            end;
        {ok, _, 0} ->
            %% The server died while it began this segment.
            ok = file:close(Fd),
            ok = must(Path, file:delete(Path)),
            case maps:keys(Segments) of
                [] -> empty;
                Former -> replay(Dir, lists:sort(Former))
            end;
        {bad, Offset} ->
            ok = file:close(Fd),
            {damaged, Path, Offset}
    end.

replayed(Fd, Number, Size, #{numbers := Numbers, acked := Acked} = Queue) ->
    Undelivered = lists:sum([Last - max(First - 1, Acked) || {First, Last} <- Numbers, Last > Acked]),
    sweep((maps:remove(numbers, Queue))#{fd => Fd, number => Number, size => Size, undelivered => Undelivered}).

replay_segment(Fd, Offset, IsLast, Queue) ->
    case read_at(Fd, Offset) of
        {ok, [{head, _, _, Epoch, _, _, _} | _], _} when Offset > 0; map_get(epoch, Queue) =/= Epoch ->
            {bad, Offset};
        {ok, [First | _] = Ops, Next} when Offset > 0; element(1, First) =:= head ->
            #{numbers := Numbers} = Queue1 = apply_ops(Ops, Queue),
            Here = [{element(1, Piece), last(Piece)} || Piece <- pieces(Ops)],
            replay_segment(Fd, Next, IsLast, Queue1#{numbers := Here ++ Numbers});
        eof -> {ok, Queue, Offset};
        {bad, Next} when IsLast ->
            case is_torn(Fd, Offset, Next) of
                true ->
                    cut(Fd, Offset, torn),
                    {ok, Queue, Offset};
                false -> {bad, Offset}
            end;
        {error, Reason} -> throw({file, "segment", Reason});
        _ -> {bad, Offset}
    end.

%% A group is torn, and not damaged, when it is the last: it ends with the file or beyond it, or is nothing but the
%% zeros that a file system leaves when the power goes.
is_torn(Fd, Offset, Next) ->
    {ok, Size} = file:position(Fd, eof),
    Next >= Size orelse
        case file:pread(Fd, Offset, Size - Offset) of
            {ok, Rest} -> Rest =:= <<0:(byte_size(Rest) * 8)>>;
            _ -> false
        end.

%% A new queue with what can still be read of a damaged one: the events get new numbers under a new epoch, where they
%% can't be taken for others. The damaged folder is kept aside.
salvage(Dir, Numbers, Host) ->
    New = Dir ++ ".new",
    _ = file:del_dir_r(New),
    ok = must(New, filelib:ensure_dir(filename:join(New, "x"))),
    #{acked := Acked, ledger := Ledger} =
        fold_readable(Dir, Numbers, fun apply_ops/2, #{acked => 0, ledger => #{}, next => 1}),
    Renumber = fun({_, Sizes, Json}, Seq) -> {{events, {Seq, Sizes, Json}}, last({Seq, Sizes, Json}) + 1} end,
    Copy = fun(Ops, #{next := Next} = Queue) ->
                   {Moved, _} = lists:mapfoldl(Renumber, Next, beyond(Acked, pieces(Ops))),
                   append_or_throw(Moved, Queue)
           end,
    Queue = fold_readable(Dir, Numbers, Copy, create(New, Host)),
    Queue1 = append_or_throw([{up, Ref, USR, Pid, 0, none} || {Ref, {USR, Pid, _}} <- maps:to_list(Ledger)], Queue),
    ok = must(Dir, file:rename(Dir, Dir ++ ".damaged-" ++ integer_to_list(erlang:system_time(second)))),
    ok = must(New, file:rename(New, Dir)),
    #{next := Next} = Queue1,
    Queue1#{dir := Dir, undelivered := Next - 1}.

append_or_throw([], Queue) ->
    Queue;
append_or_throw(Ops, #{dir := Dir} = Queue) ->
    case append(Ops, Queue) of
        {ok, Queue1} -> Queue1;
        {error, Reason, _} -> throw({file, Dir, Reason})
    end.

fold_readable(Dir, Numbers, Fun, Acc) ->
    lists:foldl(fun(Number, Acc1) ->
                        Fd = must(Dir, file:open(path(Dir, Number), [read, raw, binary])),
                        Acc2 = fold_segment(Fd, 0, Fun, Acc1),
                        ok = file:close(Fd),
                        Acc2
                end, Acc, Numbers).

fold_segment(Fd, Offset, Fun, Acc) ->
    case read_at(Fd, Offset) of
        {ok, Ops, Next} -> fold_segment(Fd, Next, Fun, Fun(Ops, Acc));
        {bad, Next} -> fold_segment(Fd, Next, Fun, Acc);
        eof -> Acc;
        {error, Reason} -> throw({file, "segment", Reason})
    end.

must(_, ok) -> ok;
must(_, {ok, Value}) -> Value;
must(Path, {error, Reason}) -> throw({file, Path, Reason}).

%%%-------------------------------------------------------------------------------------------------- the census
%%%
%%% How many available sessions has a user, on all nodes of the cluster together? A replicated Mnesia table says for
%%% each user which sessions there are, {Ref, Resource}, and a transaction that locks the user's row counts. So of two
%%% sessions that come at the same time on two nodes one is told 1 and the other 2, and of two that end one is told 0.
%%% It runs in a process of its own, since a transaction can wait for a node that hangs.
%%%
%%% When a node dies, each survivor takes what it can get of the dead node's sessions out of the table; a transaction
%%% gives each session to one of them, and that one tells of its end. A claim, kept on disk, says so to the dead node
%%% when it comes back with its ledger.

start_census(#{host := Host, run := Run} = S) ->
    S#{census => spawn_link(?MODULE, census, [self(), Host, Run])}.

census(Owner, Host, Run) ->
    {ok, _} = mnesia:subscribe(system),
    census(Owner, Host, Run, prepare(Owner, Host, Run)).

census(Owner, Host, Run, Ready) ->
    receive
        {count, Id, Ops} ->
            Owner ! {counted, Id, count(Host, Ops, Ready)},
            census(Owner, Host, Run, Ready);
        {mnesia_system_event, {mnesia_down, Node}} when Ready ->
            claim(Owner, Host, Run, Node),
            census(Owner, Host, Run, Ready);
        _ ->
            census(Owner, Host, Run, Ready)
    after 5000 ->
        case Ready of
            true -> census(Owner, Host, Run, true);
            false -> census(Owner, Host, Run, prepare(Owner, Host, Run))
        end
    end.

prepare(Owner, Host, Run) ->
    case [Reason || {Table, Type, Attributes} <- [{?SESSIONS, ram_copies, [user, sessions]},
                                                  {?CLAIMS, disc_copies, [run, claimant]}],
                    {error, Reason} <- [table(Table, Type, Attributes)]] of
        [] ->
            %% Nodes that died while nobody here watched.
            Running = mnesia:system_info(running_db_nodes),
            Others = lists:usort([Node || {_, _, Sessions} <- rows(Host), {{Node, _, _}, _} <- Sessions]) -- Running,
            [claim(Owner, Host, Run, Node) || Node <- Others],
            true;
        [Reason | _] ->
            log(error, "~ts: no table to count the cluster's sessions in (~0p); events go without their number",
                [Host, Reason]),
            false
    end.

table(Table, Type, Attributes) ->
    case mnesia:create_table(Table, [{Type, [node()]}, {attributes, Attributes}]) of
        {atomic, ok} -> loaded(Table);
        {aborted, {already_exists, _}} -> copy_here(Table);
        %% A node without a schema on disk.
        {aborted, {bad_type, _, disc_copies, _}} -> table(Table, ram_copies, Attributes);
        {aborted, Reason} -> {error, Reason}
    end.

copy_here(Table) ->
    case mnesia:table_info(Table, storage_type) of
        unknown ->
            [Holder | _] = mnesia:table_info(Table, where_to_commit),
            {_, Type} = Holder,
            case mnesia:add_table_copy(Table, node(), Type) of
                {atomic, ok} -> loaded(Table);
                {aborted, {already_exists, _, _}} -> loaded(Table);
                {aborted, Reason} -> {error, Reason}
            end;
        _ -> loaded(Table)
    end.

loaded(Table) ->
    case mnesia:wait_for_tables([Table], ?FIRST_COUNT_MS) of
        ok -> ok;
        {timeout, _} -> {error, timeout};
        {error, Reason} -> {error, Reason}
    end.

rows(Host) ->
    mnesia:dirty_select(?SESSIONS, [{{?SESSIONS, {'_', Host}, '_'}, [], ['$_']}]).

count(_, Ops, false) ->
    [unknown || _ <- Ops];
count(Host, Ops, true) ->
    lists:append([count_part(Host, Part) || Part <- slices(Ops, 300)]).

%% The rows are locked in one order on all nodes, so that two transactions rarely have to try again.
count_part(Host, Ops) ->
    Count = fun() ->
                    Users = lists:usort([element(3, Op) || Op <- Ops]),
                    Rows = maps:from_list([{User, read_row(User)} || User <- Users]),
                    {Counts, Rows1} = lists:mapfoldl(fun(Op, Acc) -> count_one(Op, Host, Acc) end, Rows, Ops),
                    [write_row(User, map_get(User, Rows1))
                     || User <- Users, map_get(User, Rows1) =/= map_get(User, Rows)],
                    Counts
            end,
    case mnesia:transaction(Count) of
        {atomic, Counts} -> Counts;
        {aborted, Reason} ->
            log(warning, "~ts: counting sessions failed: ~0p", [Host, Reason]),
            [unknown || _ <- Ops]
    end.

count_one(Op, Host, Rows) ->
    User = element(3, Op),
    Row = map_get(User, Rows),
    {Count, Row1} = count_op(Op, Host, Row),
    {Count, Rows#{User := Row1}}.

count_op({up, Ref, _, Resource}, _, Row) ->
    entered(Ref, Resource, Row);
count_op({down, Ref, _}, _, Row) ->
    left(Ref, Row);
count_op({expire, Ref, _}, _, Row) ->
    case lists:keymember(Ref, 1, Row) of
        true -> left(Ref, Row);
        false -> {{gone, length(Row)}, Row}
    end;
%% Resumed here; on another node it began.
count_op({take, Ref, _, Resource}, _, Row) ->
    case [Other || {{Node, _, _}, R} = Other <- Row, R =:= Resource, Node =/= node()] of
        [{Former, _} | _] -> {taken, lists:keyreplace(Former, 1, Row, {Ref, Resource})};
        [] -> entered(Ref, Resource, Row)
    end;
%% Of a former run of this node, unless a survivor has told of the run's sessions.
count_op({revive, {Node, Former, _} = Ref, _, Resource}, Host, Row) ->
    case is_claimed({Host, Node, Former}) of
        true -> {{gone, length(Row)}, Row};
        false -> entered(Ref, Resource, Row)
    end.

entered(Ref, Resource, Row) ->
    Row1 = lists:keystore(Ref, 1, Row, {Ref, Resource}),
    {{ok, length(Row1)}, Row1}.

left(Ref, Row) ->
    Row1 = lists:keydelete(Ref, 1, Row),
    {{ok, length(Row1)}, Row1}.

%% Whether a survivor has told of the sessions of a former run of this node.
is_claimed(Key) ->
    mnesia:read(?CLAIMS, Key, write) =/= [].

%% The sessions are read before it is looked whether the node is back: so they can only be those of its former run.
claim(Owner, Host, Run, Node) ->
    Found = [{User, [Ref || {{N, _, _} = Ref, _} <- Sessions, N =:= Node]} || {_, User, Sessions} <- rows(Host)],
    case lists:member(Node, mnesia:system_info(running_db_nodes)) of
        true -> ok;
        false ->
            [Owner ! {claimed, claim_part(Host, Run, Node, Part)}
             || Part <- slices(lists:sort([One || {_, [_ | _]} = One <- Found]), 100)]
    end.

claim_part(Host, Run, Node, Found) ->
    Claim = fun() -> lists:append([claim_user(Host, Run, Node, User, Refs) || {User, Refs} <- Found]) end,
    case mnesia:transaction(Claim) of
        {atomic, Left} -> Left;
        {aborted, Reason} ->
            log(error, "~ts: taking over the sessions of ~ts failed: ~0p", [Host, Node, Reason]),
            []
    end.

claim_user(Host, Run, Node, {Name, _} = User, Refs) ->
    Row = read_row(User),
    Mine = [{Ref, Resource} || {Ref, Resource} <- Row, lists:member(Ref, Refs)],
    [mnesia:write({?CLAIMS, {Host, Node, Former}, {node(), Run}})
     || Former <- lists:usort([R || {{_, R, _}, _} <- Mine])],
    Rest = Row -- Mine,
    Mine =/= [] andalso write_row(User, Rest),
    Counts = lists:seq(length(Rest) + length(Mine) - 1, length(Rest), -1),
    [{{Name, Host, Resource}, Count} || {{_, Resource}, Count} <- lists:zip(Mine, Counts)].

read_row(User) ->
    case mnesia:read(?SESSIONS, User, write) of
        [{_, _, Sessions}] -> Sessions;
        [] -> []
    end.

write_row(User, []) -> mnesia:delete({?SESSIONS, User});
write_row(User, Sessions) -> mnesia:write({?SESSIONS, User, Sessions}).

slices([], _) -> [];
slices(List, N) when length(List) =< N -> [List];
slices(List, N) ->
    {Slice, Rest} = lists:split(N, List),
    [Slice | slices(Rest, N)].

%%%------------------------------------------------------------------------------------------------ small things

now_ms() ->
    os:system_time(millisecond).

%% So many milliseconds from now, by the clock that nobody sets.
in(Ms) ->
    erlang:monotonic_time(millisecond) + Ms.

random_hex() ->
    <<N:64>> = crypto:strong_rand_bytes(8),
    iolist_to_binary(io_lib:format("~16.16.0b", [N])).

%% A JSON string. Not every version of ejabberd brings a JSON library, nor the same one. Most texts need no escaping,
%% and go as they are.
text(Text) ->
    [$", escape(Text), $"].

escape(Text) ->
    case plain(Text, 0) of
        Length when Length =:= byte_size(Text) -> Text;
        Length -> iolist_to_binary(escape(Text, Length))
    end.

escape(Text, Length) when Length =:= byte_size(Text) ->
    Text;
escape(Text, Length) ->
    <<Plain:Length/binary, C, Rest/binary>> = Text,
    [Plain, escaped(C) | escape(Rest, plain(Rest, 0))].

%% How many bytes at the start stand for themselves.
-define(PLAIN(C), C >= 32, C < 128, C =/= $", C =/= $\\).

plain(<<A, B, C, D, Rest/binary>>, N) when ?PLAIN(A), ?PLAIN(B), ?PLAIN(C), ?PLAIN(D) -> plain(Rest, N + 4);
plain(<<C, Rest/binary>>, N) when ?PLAIN(C) -> plain(Rest, N + 1);
plain(<<C/utf8, Rest/binary>>, N) when C >= 16#10000 -> plain(Rest, N + 4);
plain(<<C/utf8, Rest/binary>>, N) when C >= 16#800 -> plain(Rest, N + 3);
plain(<<C/utf8, Rest/binary>>, N) when C >= 128 -> plain(Rest, N + 2);
plain(_, N) -> N.

escaped($") -> <<"\\\"">>;
escaped($\\) -> <<"\\\\">>;
escaped($\n) -> <<"\\n">>;
escaped($\t) -> <<"\\t">>;
escaped(C) when C < 32 -> io_lib:format("\\u~4.16.0b", [C]);
%% Not UTF-8: one wrong byte would make the whole batch unreadable.
escaped(_) -> <<16#FFFD/utf8>>.

log(Level, Format, Args) ->
    logger:log(Level, "mod_event_pusher " ++ Format, Args).

%% Remembers in `logged` when it was, so that it is told once a minute at most.
log_seldom(Key, Level, Format, Args, #{logged := Logged} = S) ->
    Now = erlang:monotonic_time(millisecond),
    case Logged of
        #{Key := Last} when Now - Last < ?LOG_EVERY_MS -> S;
        _ ->
            log(Level, Format, Args),
            S#{logged := Logged#{Key => Now}}
    end.

log_once_again(Key, Format, Args, #{logged := Logged} = S) when is_map_key(Key, Logged) ->
    log(notice, Format, Args),
    S#{logged := maps:remove(Key, Logged)};
log_once_again(_, _, _, S) ->
    S.
