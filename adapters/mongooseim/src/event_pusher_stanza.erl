%%% A message's event, from MongooseIM's accumulator.
-module(event_pusher_stanza).

-export([report/3]).

-spec report(chat | groupchat, Acc :: term(), HostType :: binary()) -> ok.
report(Type, Acc, HostType) ->
    {From, To, Stanza} = mongoose_acc:packet(Acc),
    case exml_query:subelement(Stanza, <<"body">>) of
        undefined -> ok;
        Body ->
            Make = fun() -> json(Type, sender(From, Acc), recipient(To), Stanza, exml_query:cdata(Body)) end,
            event_pusher_mongooseim:message(HostType, Make)
    end.

json(Type, {Sender, SenderJson}, {Recipient, RecipientJson}, Stanza, Body) ->
    Xml = case event_pusher_message:is_deep(Stanza) of
              true -> none;
              false -> exml:to_binary(addressed(Sender, Recipient, Stanza))
          end,
    event_pusher_message:json(Type, SenderJson, RecipientJson, exml_query:attr(Stanza, <<"id">>, none), Body, Xml).

%% Only messages of sessions have origin_sid. The API accepts any resource, although no session sent the message.
sender(From, Acc) ->
    Sender = case mongoose_acc:get(c2s, origin_sid, undefined, Acc) of
                 undefined -> jid:to_bare(From);
                 _ -> From
             end,
    address(event_pusher_from, Sender, fun(Text) -> event_pusher_message:sender(Text, jid:lserver(Sender)) end).

recipient(To) ->
    address(event_pusher_to, To, fun event_pusher_message:recipient/1).

%% An address as XML and as JSON. A session's messages share the sender and mostly the recipient, so the session's
%% process caches the last ones.
address(Key, Jid, Json) ->
    case get(Key) of
        {Jid, Kept} -> Kept;
        _ ->
            Text = jid:to_binary(Jid),
            New = {Text, Json(Text)},
            put(Key, {Jid, New}),
            New
    end.

%% The stanza as the recipient gets it: a client's stanza has no `from`, and may have no `to`. Attributes are a list
%% until 6.3 and a map since.
addressed(From, To, {xmlel, _, Attrs, _} = Stanza) when is_map(Attrs) ->
    setelement(3, Stanza, Attrs#{<<"from">> => From, <<"to">> => To});
addressed(From, To, {xmlel, _, Attrs, _} = Stanza) when is_list(Attrs) ->
    With = lists:keystore(<<"from">>, 1, lists:keystore(<<"to">>, 1, Attrs, {<<"to">>, To}), {<<"from">>, From}),
    setelement(3, Stanza, With).
