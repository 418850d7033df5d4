%%% Watches the processes of a host type's sessions for events without a hook: a killed process, and a session that was
%%% handed over but never resumed.
%%%
%%% Invariants:
%%%  - A session has a unique key for as long as it lives on this node, and one process at a time.
%%%  - A session ends here only with its present process, and only if no process takes it over.
%%%
%%% Like the hooks, it puts items into the inbox. Each session sends it one message when it begins and at most one when
%%% it ends, so the server's own work bounds its mailbox.
-module(event_pusher_watch).
-behaviour(gen_server).

-export([start_link/4, watch/3, handed_over/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type key() :: event_pusher_rows:key().
-record(watch, {inbox :: term(),
                handover_ms :: pos_integer(),
                pids = #{} :: #{pid() => {key(), reference()}},
                keys = #{} :: #{key() => pid()}}).

%% `LookAround` makes each existing session report itself, by `watch/3`.
-spec start_link(atom(), Inbox :: term(), pos_integer(), LookAround :: {module(), atom(), list()}) -> {ok, pid()}.
start_link(Name, Inbox, HandoverMs, LookAround) ->
    gen_server:start_link({local, Name}, ?MODULE, [Inbox, HandoverMs, LookAround], []).

%% From now on this process serves that session.
-spec watch(atom(), pid(), key()) -> ok.
watch(Name, Pid, Key) ->
    gen_server:cast(Name, {watch, Pid, Key}).

%% This process says that another one takes over its session. It may end for another reason, so the new process is
%% awaited.
-spec handed_over(atom(), pid()) -> ok.
handed_over(Name, Pid) ->
    gen_server:cast(Name, {handed_over, Pid, now_ms()}).

init([Inbox, HandoverMs, LookAround]) ->
    {Module, Function, Args} = LookAround,
    _ = apply(Module, Function, Args),
    {ok, #watch{inbox = Inbox, handover_ms = HandoverMs}}.

handle_call(_, _From, W) ->
    {reply, unknown, W}.

handle_cast({watch, Pid, Key}, #watch{pids = Pids} = W) ->
    case Pids of
        #{Pid := {Key, _}} -> {noreply, W};
        _ ->
            %% A session that was unavailable and is available again has a new key.
            #watch{pids = Pids1, keys = Keys1} = unwatch(Pid, forget_keys(Pid, W)),
            Monitor = monitor(process, Pid),
            {noreply, W#watch{pids = Pids1#{Pid => {Key, Monitor}}, keys = Keys1#{Key => Pid}}}
    end;
handle_cast({handed_over, Pid, At}, #watch{pids = Pids, handover_ms = Ms} = W) ->
    case Pids of
        #{Pid := {Key, _}} ->
            erlang:send_after(Ms, self(), {not_taken, Key, Pid, At}),
            {noreply, unwatch(Pid, W)};
        _ -> {noreply, W}
    end;
handle_cast(_, W) ->
    {noreply, W}.

handle_info({'DOWN', _, process, Pid, _}, #watch{pids = Pids, inbox = Inbox} = W) ->
    case Pids of
        #{Pid := {Key, _}} ->
            is_served_by(Pid, Key, W) andalso event_pusher_inbox:put(Inbox, {ended, now_ms(), Key}),
            {noreply, forget(Key, Pid, unwatch(Pid, W))};
        _ -> {noreply, W}
    end;
handle_info({not_taken, Key, Pid, At}, #watch{inbox = Inbox} = W) ->
    is_served_by(Pid, Key, W) andalso event_pusher_inbox:put(Inbox, {expired, At, Key}),
    {noreply, forget(Key, Pid, W)};
handle_info(_, W) ->
    {noreply, W}.

is_served_by(Pid, Key, #watch{keys = Keys}) ->
    maps:get(Key, Keys, none) =:= Pid.

unwatch(Pid, #watch{pids = Pids} = W) ->
    case maps:take(Pid, Pids) of
        {{_, Monitor}, Rest} ->
            demonitor(Monitor, [flush]),
            W#watch{pids = Rest};
        error -> W
    end.

forget_keys(Pid, #watch{pids = Pids} = W) ->
    case Pids of
        #{Pid := {Key, _}} -> forget(Key, Pid, W);
        _ -> W
    end.

forget(Key, Pid, #watch{keys = Keys} = W) ->
    case Keys of
        #{Key := Pid} -> W#watch{keys = maps:remove(Key, Keys)};
        _ -> W
    end.

now_ms() ->
    os:system_time(millisecond).
