/** MongooseIM's exchanges, as its configuration declares them. */

/** RabbitMQ's built-in types. */
type ExchangeType = 'topic' | 'fanout' | 'headers' | 'direct';

export interface Exchange {
  readonly name: string;
  readonly type: ExchangeType;
  readonly durable: boolean;
}

export interface MessageExchange extends Exchange {
  /** End of the routing keys of messages that users sent. */
  readonly sentTopic: string;
  /** End of the routing keys of the copies for recipients. */
  readonly recvTopic: string;
}

export interface Exchanges {
  readonly presence: Exchange;
  readonly chat: MessageExchange;
  readonly groupchat: MessageExchange;
}

/** The distinct exchanges: one may serve several kinds. */
export function exchangesOf({ presence, chat, groupchat }: Exchanges): readonly Exchange[] {
  return [...new Map([presence, chat, groupchat].map((exchange) => [exchange.name, exchange])).values()];
}

/** Our queue's bindings: all presence, and the messages that users sent. */
export function bindingsOf({ presence, chat, groupchat }: Exchanges): { exchange: string; key: string }[] {
  const keys = [
    { ...presence, key: '#' },
    { ...chat, key: `#.${chat.sentTopic}` },
    { ...groupchat, key: `#.${groupchat.sentTopic}` },
  ];
  const bindings = keys.flatMap(({ name, type, key }) => {
    // A direct exchange compares whole keys, which begin with a user's JID: no binding covers them all.
    if (type === 'direct') return [];
    return [{ exchange: name, key: type === 'topic' ? key : '' }];
  });
  return [...new Map(bindings.map((binding) => [`${binding.exchange}\n${binding.key}`, binding])).values()];
}
