%%% The parts of the adapter that call MongooseIM, except the hooks: processes and the callbacks of event_pusher_host.
%%%
%%% Each host type has a process that watches sessions (event_pusher_watch) and one that queues and delivers
%%% (event_pusher_server), which starts the one that counts (event_pusher_cluster).
-module(event_pusher_mongooseim).
-behaviour(event_pusher_host).

-export([start/1, stop/1, seen/2, message/2, watch/3, handed_over/2, raised/3, look_around/1]).
-export([options/1, jid_text/1, tls_options/0, present_sessions/1, is_stopping/1, hooks/2, start_census/3]).

%% How long a session may take to report whether it is available, if the module is loaded while it exists.
-define(PRESENT_MS, 5000).
-define(LOG_EVERY_MS, 60000).
-define(SHUTDOWN_MS, 15000).

-type host_type() :: binary().
-type key() :: event_pusher_rows:key().

%% The names of a host type's processes, cached because the hooks use them all the time.
-record(names, {main :: atom(), watch :: atom(), census :: atom()}).

-spec start(host_type()) -> ok.
start(HostType) ->
    Names = #names{main = proc(HostType, mod_xmpp_event_pusher), watch = proc(HostType, event_pusher_watch),
                   census = proc(HostType, event_pusher_cluster)},
    persistent_term:put({?MODULE, HostType}, Names),
    #{handover := HandoverMs} = event_pusher_options:read(),
    start_child(Names#names.watch, event_pusher_watch,
                [Names#names.watch, {?MODULE, HostType}, HandoverMs, {?MODULE, look_around, [HostType]}]),
    start_child(Names#names.main, event_pusher_server,
                [#{name => Names#names.main, host => HostType, source => event_pusher_host:source("mongooseim", HostType),
                   dir => event_pusher_options:dir(HostType), server => ?MODULE}]).

start_child(Name, Module, Args) ->
    {ok, _} = ejabberd_sup:start_child({Name, {Module, start_link, Args}, permanent, ?SHUTDOWN_MS, worker, [Module]}),
    ok.

-spec stop(host_type()) -> ok.
stop(HostType) ->
    #names{main = Main, watch = Watch} = names(HostType),
    _ = ejabberd_sup:stop_child(Main),
    _ = ejabberd_sup:stop_child(Watch),
    ok.

proc(HostType, Module) ->
    gen_mod:get_module_proc(HostType, Module).

names(HostType) ->
    persistent_term:get({?MODULE, HostType}).

%%%--------------------------------------------------------------------------------------------------- for the hooks

-spec seen(host_type(), event_pusher_sessions:seen()) -> ok.
seen(HostType, What) ->
    event_pusher_inbox:put({?MODULE, HostType}, What).

-spec message(host_type(), fun(() -> binary())) -> ok.
message(HostType, Make) ->
    event_pusher_inbox:message({?MODULE, HostType}, Make).

-spec watch(host_type(), pid(), key()) -> ok.
watch(HostType, Pid, Key) ->
    event_pusher_watch:watch((names(HostType))#names.watch, Pid, Key).

-spec handed_over(host_type(), pid()) -> ok.
handed_over(HostType, Pid) ->
    event_pusher_watch:handed_over((names(HostType))#names.watch, Pid).

%% Logs, once a minute, where a hook failed; never its arguments.
-spec raised(error | exit | throw, term(), list()) -> ok.
raised(Class, Reason, Stack) ->
    Now = erlang:monotonic_time(millisecond),
    Gauge = case persistent_term:get({?MODULE, raised}, none) of
                none ->
                    New = atomics:new(1, [{signed, true}]),
                    atomics:put(New, 1, Now - ?LOG_EVERY_MS - 1),
                    persistent_term:put({?MODULE, raised}, New),
                    New;
                Known -> Known
            end,
    Last = atomics:get(Gauge, 1),
    Now - Last > ?LOG_EVERY_MS andalso atomics:compare_exchange(Gauge, 1, Last, Now) =:= ok andalso
        event_pusher_log:log(error, "a hook handler failed: ~ts: ~0p at ~0p", [Class, kind(Reason), places(Stack)]),
    ok.

%% Terms such as `{badmatch, Message}` contain the arguments.
kind(Reason) when is_atom(Reason) -> Reason;
kind(Reason) when is_tuple(Reason), is_atom(element(1, Reason)) -> element(1, Reason);
kind(_) -> unknown.

places(Stack) ->
    [{Module, Function, case Arity of
                            Args when is_list(Args) -> length(Args);
                            _ -> Arity
                        end, proplists:get_value(line, Location, 0)} || {Module, Function, Arity, Location} <- Stack].

%%%------------------------------------------------------------------------------- what event_pusher_host asks

-spec options(host_type()) -> event_pusher_host:options().
options(_HostType) ->
    maps:with([url, secret, queue_max, timeout, slow_retry], event_pusher_options:read()).

-spec jid_text(event_pusher_sessions:usr()) -> binary().
jid_text(USR) ->
    jid:to_binary(USR).

-spec tls_options() -> [ssl:tls_client_option()].
tls_options() ->
    case event_pusher_options:read() of
        #{ca_file := <<>>} -> [{cacerts, public_key:cacerts_get()}];
        #{ca_file := File} -> [{cacertfile, unicode:characters_to_list(File)}]
    end.

%% Asks each session in its own process, because a priority in MongooseIM's session table does not mean presence. A
%% session that is stuck counts as gone, and begins again when it answers.
-spec present_sessions(host_type()) -> #{key() => event_pusher_sessions:usr()}.
present_sessions(HostType) ->
    Asked = [begin
                 Alias = monitor(process, Pid, [{alias, reply_demonitor}]),
                 mongoose_c2s:async_with_state(Pid, fun mod_xmpp_event_pusher:report/3, [HostType, Alias]),
                 Alias
             end || Pid <- sessions(HostType)],
    Deadline = erlang:monotonic_time(millisecond) + ?PRESENT_MS,
    maps:from_list(lists:flatmap(fun(Alias) -> answer_of(Alias, Deadline) end, Asked)).

answer_of(Alias, Deadline) ->
    receive
        {Alias, absent} -> [];
        {Alias, Present} -> [Present];
        {'DOWN', Alias, process, _, _} -> []
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        demonitor(Alias, [flush]),
        []
    end.

%% Makes each session of this node report itself again.
-spec look_around(host_type()) -> ok.
look_around(HostType) ->
    lists:foreach(fun(Pid) -> mongoose_c2s:async_with_state(Pid, fun mod_xmpp_event_pusher:adopt/2, [HostType]) end,
                  sessions(HostType)).

%% The processes of this node's sessions of the host type. Without listeners there are none, so a starting server does
%% not read the cluster's table.
sessions(HostType) ->
    case is_stopping(HostType) of
        true -> [];
        false ->
            [Pid || Session <- ejabberd_sm:get_full_session_list(), {_, Pid} <- [element(2, Session)],
                    node(Pid) =:= node(), is_map_key(conn, mongoose_session:get_info(Session)),
                    {_, Host, _} <- [element(3, Session)],
                    mongoose_domain_api:get_domain_host_type(Host) =:= {ok, HostType}]
    end.

%% A stopping server has no listeners left when it stops its modules. Until 6.2 its sessions end after them.
-spec is_stopping(host_type()) -> boolean().
is_stopping(_HostType) ->
    try supervisor:which_children(mongoose_listener_sup) =:= []
    catch
        exit:_ -> true
    end.

%% MongooseIM adds and deletes the hooks itself.
-spec hooks(add | delete, host_type()) -> ok.
hooks(_, _HostType) ->
    ok.

-spec start_census(pid(), host_type(), binary()) -> pid().
start_census(Owner, HostType, _Run) ->
    {ok, Census} = event_pusher_cluster:start_link(Owner, (names(HostType))#names.census,
                                                   event_pusher_options:dir(HostType) ++ ".claims"),
    Census.
