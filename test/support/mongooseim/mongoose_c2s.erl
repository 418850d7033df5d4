%%% The process of a session. Its state is opaque to modules, which use the functions below.
-module(mongoose_c2s).
%% The API.
-export([async_with_state/3, get_jid/1, get_sid/1, get_host_type/1, get_mod_state/2, merge_mod_state/2]).
%% For tests.
-export([start/3, run/2, run_casts/1, stop/2, state_mod/1, set_jid/2, hook/5]).

async_with_state(Pid, Fun, Args) ->
    gen_server:cast(Pid, {async_with_state, Fun, Args}).

get_jid({c2s_data, #{jid := Jid}}) -> Jid.
get_sid({c2s_data, #{sid := Sid}}) -> Sid.
get_host_type({c2s_data, #{host_type := HostType}}) -> HostType.

get_mod_state({c2s_data, #{state_mod := States}}, Module) ->
    case States of
        #{Module := State} -> {ok, State};
        _ -> {error, not_found}
    end.

merge_mod_state({c2s_data, #{state_mod := States} = Data}, More) ->
    {c2s_data, Data#{state_mod := maps:merge(States, More)}}.

%% Starts a session. With `when_told` it handles messages of async_with_state only in run_casts/1.
start(HostType, States, Casts) when Casts =:= at_once; Casts =:= when_told ->
    spawn(fun() ->
        Sid = {erlang:system_time(microsecond), self()},
        loop({c2s_data, #{host_type => HostType, jid => undefined, sid => Sid, state_mod => States}}, Casts)
    end).

%% Runs Fun(Data) -> {Reply, Data} in the process.
run(Pid, Fun) ->
    case gen_server:call(Pid, {run, Fun}, infinity) of
        {ran, Reply} -> Reply;
        {raised, Class, Reason, Stack} -> erlang:raise(Class, Reason, Stack)
    end.

run_casts(Pid) ->
    gen_server:call(Pid, run_casts, infinity).

%% Ends the process with that reason after finishing earlier work.
stop(Pid, killed) ->
    exit(Pid, kill),
    down(Pid);
stop(Pid, Reason) ->
    Pid ! {stop, Reason},
    down(Pid).

down(Pid) ->
    Ref = monitor(process, Pid),
    receive {'DOWN', Ref, process, Pid, _} -> ok end.

%% The states of all modules, as a resumption passes them to the next process.
state_mod(Pid) ->
    run(Pid, fun({c2s_data, #{state_mod := States}} = Data) -> {States, Data} end).

set_jid({c2s_data, Data}, Jid) ->
    {c2s_data, Data#{jid := Jid}}.

%% Runs a hook in the session's process and keeps the states that its handlers return.
hook(Name, {c2s_data, #{host_type := HostType}} = Data, Acc, Params, UpTo) ->
    Acc1 = gen_hook:run_fold(Name, HostType, Acc, Params, UpTo),
    case Acc1 of
        #{statem_acc := #{state_mod := States}} -> merge_mod_state(Data, States);
        _ -> Data
    end.

loop(Data, at_once) ->
    receive
        {'$gen_cast', Cast} -> loop(cast(Cast, Data), at_once);
        Message -> told(Message, Data, at_once)
    end;
loop(Data, when_told) ->
    receive
        {'$gen_call', _, _} = Message -> told(Message, Data, when_told);
        {stop, _} = Message -> told(Message, Data, when_told)
    end.

told({'$gen_call', From, {run, Fun}}, Data, Casts) ->
    {Reply, Data1} = try
                         {Result, New} = Fun(Data),
                         {{ran, Result}, New}
                     catch
                         Class:Reason:Stack -> {{raised, Class, Reason, Stack}, Data}
                     end,
    gen_server:reply(From, Reply),
    loop(Data1, Casts);
told({'$gen_call', From, run_casts}, Data, Casts) ->
    {Count, Data1} = casts(0, Data),
    gen_server:reply(From, Count),
    loop(Data1, Casts);
told({stop, Reason}, _, _) ->
    exit(Reason);
told(_, Data, Casts) ->
    loop(Data, Casts).

casts(Count, Data) ->
    receive {'$gen_cast', Cast} -> casts(Count + 1, cast(Cast, Data))
    after 0 -> {Count, Data}
    end.

cast({async_with_state, Fun, Args}, Data) -> apply(Fun, [Data | Args]);
cast(_, Data) -> Data.
