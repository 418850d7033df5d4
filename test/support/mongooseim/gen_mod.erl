-module(gen_mod).
%% The API.
-export([get_module_proc/2]).

get_module_proc(HostType, Module) ->
    list_to_atom(atom_to_list(Module) ++ "_" ++ binary_to_list(HostType)).
