%%% xmpp-event-pusher's adapter for MongooseIM 6.1 to 6.8: reports presence, chat and group messages to the daemon, at
%%% least once and in order, by the tap protocol (docs/tap-protocol.md).
%%%
%%% This module has the hooks; event_pusher_mongooseim has the other parts that call MongooseIM. They use no record and
%%% no header of MongooseIM, so that one source, and one beam file, serves all of these versions.
%%%
%%% Invariants:
%%%  - A session's key is in the session's own state. A resumption passes that state to the new process, so it causes no
%%%    event, and a takeover counts as two sessions. A key is created on the session's node.
%%%  - Hooks never raise: MongooseIM would log the accumulator, which includes the message.
%%%  - An event's host is its user's own domain, whatever the host type's name.
-module(mod_xmpp_event_pusher).

-export([start/2, stop/1, deps/2, hooks/1, supported_features/0]).
-export([user_send_message/3, user_available/3, unset_presence/3, sm_register_connection/3, user_terminate/3]).
%% Run by a session's process with its whole state.
-export([adopt/2, report/3]).

-type host_type() :: binary().
-type key() :: event_pusher_rows:key().
%% Opaque values, which only MongooseIM's own functions look into.
-type acc() :: term().
-type data() :: term().

%% In the session's process: its key, for hooks that do not get the state.
-define(KEY, event_pusher_key).

%%%--------------------------------------------------------------------------------------------------------- gen_mod

%% Never links: MongooseIM warns about that, and the processes would die with an rpc caller that starts the module.
-spec start(host_type(), map()) -> ok.
start(HostType, _Options) ->
    event_pusher_mongooseim:start(HostType).

-spec stop(host_type()) -> ok.
stop(HostType) ->
    event_pusher_mongooseim:stop(HostType).

-spec supported_features() -> [atom()].
supported_features() ->
    [dynamic_domains].

%% mod_presence runs user_available and unset_presence, so it is started even if it is not configured.
-spec deps(host_type(), map()) -> [{module(), map(), hard}].
deps(_HostType, _Options) ->
    [{mod_presence, #{}, hard}].

%% Messages after all filters, so that refused messages are not reported. A session's end before mod_presence (90) and
%% stream management (50, 100, which stops the hook). Until 6.2 three hooks' names ended in `_hook`; a handler of an
%% unknown hook does no harm.
-spec hooks(host_type()) -> [{atom(), host_type(), fun(), map(), pos_integer()}].
hooks(HostType) ->
    [{user_send_message, HostType, fun ?MODULE:user_send_message/3, #{}, 95},
     {user_terminate, HostType, fun ?MODULE:user_terminate/3, #{}, 20}]
        ++ [{Name, HostType, Function, #{}, 50}
            || {Names, Function} <-
                   [{[user_available, user_available_hook], fun ?MODULE:user_available/3},
                    {[unset_presence, unset_presence_hook], fun ?MODULE:unset_presence/3},
                    {[sm_register_connection, sm_register_connection_hook], fun ?MODULE:sm_register_connection/3}],
               Name <- Names].

%%%------------------------------------------------------------------------------------------------------------ hooks

-spec user_send_message(acc(), map(), map()) -> {ok, acc()}.
user_send_message(Acc, _Params, #{host_type := HostType}) ->
    _ = case mongoose_acc:stanza_type(Acc) of
            <<"chat">> -> safely(fun() -> event_pusher_stanza:report(chat, Acc, HostType) end);
            <<"groupchat">> -> safely(fun() -> event_pusher_stanza:report(groupchat, Acc, HostType) end);
            _ -> ok
        end,
    {ok, Acc}.

%% mod_presence runs this at the first available presence only, also when the server's API sets it.
-spec user_available(acc(), map(), map()) -> {ok, acc()}.
user_available(Acc, #{jid := Jid}, #{host_type := HostType}) ->
    Begin = fun() ->
                    Key = begins(available, event_pusher_rows:new_key(), Jid, HostType),
                    mongoose_c2s_acc:to_acc(Acc, state_mod, {?MODULE, Key})
            end,
    {ok, safely(Begin, Acc)}.

%% mod_presence runs this for unavailable presence, also a repeated one, and at each end of an available session, also
%% one resumed elsewhere. Ends already reported by user_terminate are not repeated.
-spec unset_presence(acc(), map(), map()) -> {ok, acc()}.
unset_presence(Acc, _Params, #{host_type := HostType}) ->
    End = fun() ->
                  case erase(?KEY) of
                      undefined -> ok;
                      Key -> event_pusher_mongooseim:seen(HostType, {ended, now_ms(), Key})
                  end,
                  mongoose_c2s_acc:to_acc(Acc, state_mod, {?MODULE, none})
          end,
    {ok, safely(End, Acc)}.

-spec user_terminate(acc(), map(), map()) -> {ok, acc()}.
user_terminate(Acc, #{c2s_data := Data, reason := Reason}, #{host_type := HostType}) ->
    End = fun() ->
                  _ = erase(?KEY),
                  case {key(Data), is_resumed(Reason)} of
                      {none, _} -> ok;
                      {_, true} -> event_pusher_mongooseim:handed_over(HostType, self());
                      {Key, false} -> event_pusher_mongooseim:seen(HostType, {ended, now_ms(), Key})
                  end
          end,
    safely(End),
    {ok, Acc};
user_terminate(Acc, _Params, _Extra) ->
    {ok, Acc}.

%% {shutdown, resumed} for a detached session, {shutdown, {shutdown, resumed}} for a connected one.
is_resumed({shutdown, Reason}) -> is_resumed(Reason);
is_resumed(Reason) -> Reason =:= resumed.

%% A session begins, or is resumed in a new process, whose state is not complete yet. The API's event streams register
%% too, but have no connection, and their process is not a session's.
-spec sm_register_connection(term(), map(), map()) -> {ok, term()}.
sm_register_connection(Acc, #{sid := {_, Pid}, info := #{conn := _}}, #{host_type := HostType}) when Pid =:= self() ->
    safely(fun() -> mongoose_c2s:async_with_state(Pid, fun ?MODULE:adopt/2, [HostType]) end),
    {ok, Acc};
sm_register_connection(Acc, _Params, _Extra) ->
    {ok, Acc}.

%%%------------------------------------------------------------------------------------------------ existing sessions

%% Adopts a session that was resumed in this process, or existed before the module was loaded.
-spec adopt(data(), host_type()) -> data().
adopt(Data, HostType) ->
    safely(fun() -> adopt(is_available(Data), key(Data), Data, HostType) end, Data).

adopt(false, _, Data, _) ->
    Data;
adopt(true, none, Data, HostType) ->
    with_key(begins(available, event_pusher_rows:new_key(), mongoose_c2s:get_jid(Data), HostType), Data);
adopt(true, {Node, _, _} = Key, Data, HostType) when Node =:= node() ->
    serves(Key, HostType),
    Data;
adopt(true, OfAnotherNode, Data, HostType) ->
    Key = event_pusher_rows:next_key(OfAnotherNode),
    with_key(begins(taken_over, Key, mongoose_c2s:get_jid(Data), HostType), Data).

%% Answers a starting process whether this session is available: `{Alias, {Key, USR} | absent}`.
-spec report(data(), host_type(), reference()) -> data().
report(Data, HostType, Alias) ->
    Data1 = adopt(Data, HostType),
    Alias ! {Alias, safely(fun() -> whether_present(Data1, HostType) end, absent)},
    Data1.

%% Also puts it into the inbox, in case the answer comes too late. For a known session that has no effect.
whether_present(Data, HostType) ->
    case is_available(Data) of
        true ->
            {Key, USR} = Present = {key(Data), jid:to_lower(mongoose_c2s:get_jid(Data))},
            event_pusher_mongooseim:seen(HostType, {available, now_ms(), Key, USR}),
            Present;
        false -> absent
    end.

is_available(Data) ->
    mod_presence:get_old_priority(mod_presence:maybe_get_handler(Data)) =/= undefined.

-spec begins(available | taken_over, key(), Jid :: term(), host_type()) -> key().
begins(What, Key, Jid, HostType) ->
    event_pusher_mongooseim:seen(HostType, {What, now_ms(), Key, jid:to_lower(Jid)}),
    serves(Key, HostType),
    Key.

serves(Key, HostType) ->
    put(?KEY, Key),
    event_pusher_mongooseim:watch(HostType, self(), Key).

-spec key(data()) -> key() | none.
key(Data) ->
    case mongoose_c2s:get_mod_state(Data, ?MODULE) of
        {ok, Key} -> Key;
        {error, not_found} -> none
    end.

with_key(Key, Data) ->
    mongoose_c2s:merge_mod_state(Data, #{?MODULE => Key}).

%%%----------------------------------------------------------------------------------------------------- small things

safely(Fun) ->
    safely(Fun, ok).

%% Logs exceptions without arguments, which may include a message.
safely(Fun, Otherwise) ->
    try Fun()
    catch
        Class:Reason:Stack ->
            event_pusher_mongooseim:raised(Class, Reason, Stack),
            Otherwise
    end.

now_ms() ->
    os:system_time(millisecond).
