-module(gen_hook).
%% The API.
-export([add_handlers/1, delete_handlers/1]).
%% For tests.
-export([run_fold/4, run_fold/5, raised/0, use_old_names/1]).

-define(ANY_PRIORITY, 1000).

add_handlers(Handlers) ->
    lists:foreach(fun({_, _, Fun, _, _} = Handler) ->
                          %% A local fun would keep the module's old code.
                          {type, external} = erlang:fun_info(Fun, type),
                          ets:insert(standin_hooks, Handler)
                  end, Handlers).

delete_handlers(Handlers) ->
    lists:foreach(fun(Handler) -> ets:delete_object(standin_hooks, Handler) end, Handlers).

%% Until 6.2 some names ended in `_hook`.
use_old_names(Old) ->
    persistent_term:put({?MODULE, old_names}, Old).

run_fold(Name, HostType, Acc, Params) ->
    run_fold(Name, HostType, Acc, Params, ?ANY_PRIORITY).

%% Runs only the handlers up to a priority: a filter at that priority stopped the hook.
run_fold(Name, HostType, Acc, Params, UpTo) ->
    Handlers = lists:keysort(5, [Handler || {_, Type, _, _, Priority} = Handler <- ets:lookup(standin_hooks, name(Name)),
                                            Type =:= HostType, Priority =< UpTo]),
    fold(Handlers, Acc, Params).

fold([], Acc, _) ->
    Acc;
fold([{Name, HostType, Fun, Extra, _} | Handlers], Acc, Params) ->
    Result = try Fun(Acc, Params, Extra#{hook_name => Name, hook_tag => HostType, host_type => HostType})
             catch Class:Reason:Stack ->
                 ets:insert(standin_raised, {Name, Class, Reason, Stack}),
                 {ok, Acc}
             end,
    case Result of
        {ok, Acc1} -> fold(Handlers, Acc1, Params);
        {stop, Acc1} -> Acc1
    end.

%% Exceptions of handlers. MongooseIM logs them together with the accumulator.
raised() ->
    ets:tab2list(standin_raised).

name(Name) ->
    case persistent_term:get({?MODULE, old_names}, false) of
        true when Name =:= user_available; Name =:= unset_presence; Name =:= sm_register_connection ->
            binary_to_atom(<<(atom_to_binary(Name))/binary, "_hook">>);
        _ -> Name
    end.
