-module(mongoose_c2s_acc).
%% The API.
-export([to_acc/3]).

to_acc(#{statem_acc := #{state_mod := States} = Statem} = Acc, state_mod, {Module, State}) ->
    Acc#{statem_acc := Statem#{state_mod := States#{Module => State}}};
to_acc(#{mongoose_acc := true} = Acc, state_mod, {Module, State}) ->
    Acc#{statem_acc => #{state_mod => #{Module => State}}}.
