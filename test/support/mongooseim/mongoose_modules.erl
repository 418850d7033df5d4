-module(mongoose_modules).
%% The API.
-export([ensure_started/3, ensure_stopped/2]).

ensure_started(HostType, Module, Opts) ->
    case ets:insert_new(standin_modules, {{HostType, Module}, Opts}) of
        true ->
            [dynamic_domains] = Module:supported_features(),
            [{mod_presence, #{}, hard}] = Module:deps(HostType, Opts),
            Module:start(HostType, Opts),
            gen_hook:add_handlers(Module:hooks(HostType)),
            {started, ok};
        false -> already_started
    end.

ensure_stopped(HostType, Module) ->
    case ets:take(standin_modules, {HostType, Module}) of
        [_] ->
            gen_hook:delete_handlers(Module:hooks(HostType)),
            Module:stop(HostType),
            {stopped, #{}};
        [] -> already_stopped
    end.
