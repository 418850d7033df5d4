%%% The adapter's options: from the environment, else from `etc/app.config`. MongooseIM rejects options in the section
%%% of a module that it does not know.
%%%
%%%   {mongooseim, [{xmpp_event_pusher, [{url, "http://127.0.0.1:5290/v1/events"}, {secret, "…"}]}]}
%%%
%%% An invalid option is logged and keeps its default: a module that fails to start takes the server down.
-module(event_pusher_options).

-export([read/0, dir/1]).

-define(ENVIRONMENT, "XMPP_EVENT_PUSHER_").

-type options() :: #{url := binary(), secret := binary(), queue_max := pos_integer(), timeout := pos_integer(),
                     slow_retry := pos_integer(), handover := pos_integer(), ca_file := binary(), dir := binary()}.

%% Times are in milliseconds. `handover`: how long the end of a resumed session waits for its new process. `dir`: the
%% folder for the queues; by default beside Mnesia's.
-spec defaults() -> options().
defaults() ->
    #{url => <<"http://127.0.0.1:5290/v1/events">>, secret => <<>>, queue_max => 1000000, timeout => 15000,
      slow_retry => 30000, handover => 10000, ca_file => <<>>, dir => <<>>}.

-spec read() -> options().
read() ->
    Configured = application:get_env(mongooseim, xmpp_event_pusher, []),
    maps:map(fun(Name, Default) -> option(Name, Default, Configured) end, defaults()).

option(Name, Default, Configured) ->
    Given = case os:getenv(?ENVIRONMENT ++ string:uppercase(atom_to_list(Name))) of
                false when is_list(Configured) -> proplists:get_value(Name, Configured, Default);
                false -> Default;
                Text -> Text
            end,
    case value(Given, Default) of
        {ok, Value} -> Value;
        error ->
            event_pusher_log:log(error, "the option ~ts is invalid; using ~0p", [Name, Default]),
            Default
    end.

%% The value, if it has the default's type.
value(Value, Default) when is_integer(Default), is_integer(Value), Value > 0 -> {ok, Value};
value(Text, Default) when is_integer(Default), is_list(Text); is_integer(Default), is_binary(Text) ->
    case string:to_integer(Text) of
        {Value, Rest} when is_integer(Value), Value > 0, Rest =:= []; is_integer(Value), Value > 0, Rest =:= <<>> ->
            {ok, Value};
        _ -> error
    end;
value(Text, Default) when is_binary(Default), is_list(Text); is_binary(Default), is_binary(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> {ok, Binary};
        _ -> error
    catch
        error:badarg -> error
    end;
value(_, _) ->
    error.

%% The folder of a host type's queue.
-spec dir(HostType :: binary()) -> file:filename().
dir(HostType) ->
    Base = case read() of
               #{dir := <<>>} -> filename:join(beside(), "xmpp_event_pusher");
               #{dir := Dir} -> unicode:characters_to_list(Dir)
           end,
    filename:join(Base, name(binary_to_list(HostType))).

%% Mnesia's folder even if Mnesia does not run; else the server's working directory.
beside() ->
    case application:get_env(mnesia, dir) of
        {ok, Dir} -> Dir;
        undefined -> "."
    end.

%% A host type's name may have any characters.
name("." ++ Rest) -> "%2E" ++ name(Rest);
name(HostType) -> lists:flatmap(fun safe/1, HostType).

safe(C) when C >= $a, C =< $z; C >= $A, C =< $Z; C >= $0, C =< $9; C =:= $-; C =:= $_ -> [C];
safe($.) -> ".";
safe(C) -> io_lib:format("%~2.16.0B", [C]).
