%%% A stand-in for MongooseIM: the few functions of its API that a module may use, and a way to call them from a test.
%%% It has no network, no clients and no storage. It runs a module's hooks in processes, with accumulators and session
%%% states as recorded from a running MongooseIM.
%%%
%%% The test connects to a port of 127.0.0.1 and sends `{Id, Module, Function, Args}.` in one line. The answer is `Id ok
%%% Term` or `Id error Term`. Modules named like one of MongooseIM's export its functions under "the API", and functions
%%% for tests under "for tests".
-module(mongoose_standin).
-export([main/1, join/1, cut/1, kill/1, start_after/2, set_domains/1, stop_listeners/0, shutdown/0, flood/3]).

%% Run by `erl -run mongoose_standin main PORT`. Returns at once: until then the virtual machine ignores signals to
%% stop.
main([Port]) ->
    spawn(fun() -> run(Port) end).

run(Port) ->
    {ok, _} = application:ensure_all_started(ssl),
    %% Loads the configuration of `etc/app.config`.
    ok = application:load({application, mongooseim, [{vsn, "0"}, {modules, []}, {applications, [kernel, stdlib]}]}),
    ets:new(standin_hooks, [named_table, public, bag]),
    ets:new(standin_raised, [named_table, public, bag]),
    ets:new(standin_sessions, [named_table, public, {keypos, 2}]),
    ets:new(standin_modules, [named_table, public]),
    ets:new(standin_domains, [named_table, public]),
    set_domains([{<<"localhost">>, <<"localhost">>}]),
    {ok, _} = ejabberd_sup:start_link(),
    {ok, _} = mongoose_listener_sup:start_link(),
    {ok, Listening} = gen_tcp:listen(list_to_integer(Port), [binary, {packet, line}, {buffer, 1048576}, {active, false},
                                                             {ip, {127, 0, 0, 1}}, {reuseaddr, true}, {nodelay, true}]),
    accept(Listening).

%% Connects to a node's cluster, if the node is running.
join(Node) ->
    _ = net_kernel:connect_node(Node),
    nodes().

%% Disconnects another node, as when the network is cut, until `join/1`.
cut(Node) ->
    erlang:disconnect_node(Node).

kill(Text) ->
    exit(list_to_pid(Text), kill).

%% Starts a census while another process has its name, for a moment more.
start_after(Name, File) ->
    Former = spawn(fun() -> receive stop -> ok end end),
    register(Name, Former),
    erlang:send_after(50, Former, stop),
    {ok, Census} = event_pusher_cluster:start_link(self(), Name, File),
    whereis(Name) =:= Census.

%% Sets the host type of each domain.
set_domains(Domains) ->
    ets:delete_all_objects(standin_domains),
    ets:insert(standin_domains, Domains),
    ok.

%% A stopping server closes its listeners first.
stop_listeners() ->
    [supervisor:terminate_child(mongoose_listener_sup, Id)
     || {Id, _, _, _} <- supervisor:which_children(mongoose_listener_sup)],
    [supervisor:delete_child(mongoose_listener_sup, Id)
     || {Id, _, _, _} <- supervisor:which_children(mongoose_listener_sup)],
    ok.

%% Like MongooseIM from 6.3 on: listeners, sessions, modules, in this order.
shutdown() ->
    stop_listeners(),
    mongoose_live:end_all({shutdown, system_shutdown}),
    [mongoose_modules:ensure_stopped(HostType, Module) || {{HostType, Module}, _} <- ets:tab2list(standin_modules)],
    ok.

%% Runs a function many times in several processes; returns the microseconds from the first start to the last end.
flood(Processes, Times, Fun) ->
    {Micros, _} = timer:tc(fun() ->
        Running = [spawn_monitor(fun() -> [Fun(P, N) || N <- lists:seq(1, Times)] end) || P <- lists:seq(1, Processes)],
        [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Running]
    end),
    Micros.

accept(Listening) ->
    {ok, Socket} = gen_tcp:accept(Listening),
    Pid = spawn(fun() -> receive go -> serve(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listening).

%% Each call runs in its own process: one that waits for a session must not block the one that makes the session answer.
serve(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Line} ->
            spawn(fun() -> ok = gen_tcp:send(Socket, answer(Line)) end),
            serve(Socket);
        {error, closed} -> ok
    end.

answer(Line) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Line)),
    {ok, {Id, Module, Function, Args}} = erl_parse:parse_term(Tokens),
    {What, Term} = try {ok, apply(Module, Function, Args)}
                   catch Class:Reason:Stack -> {error, {Class, Reason, Stack}}
                   end,
    io_lib:format("~B ~s ~0tp~n", [Id, What, Term]).
