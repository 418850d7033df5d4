/** The section `tap.rabbitmq` as settings of the tap. */
import type { RabbitTapOptions } from '../../config/rabbitmq-options.ts';
import { brokerTls } from '../../rabbitmq/tls.ts';
import type { MessageExchange } from './exchanges.ts';
import type { RabbitTapSettings } from './rabbitmq.ts';

/**
 * @param folder base folder of relative paths
 * @throws PusherError CONFIG_INVALID when a certificate or key can't be read
 */
export function rabbitTapSettings(options: RabbitTapOptions, folder: string): RabbitTapSettings {
  const {
    url,
    queue,
    presence_exchange: presence,
    chat_msg_exchange: chat,
    groupchat_msg_exchange: groupchat,
  } = options;
  return {
    urls: url,
    queue,
    tls: brokerTls(options, folder, 'tap.rabbitmq'),
    exchanges: { presence, chat: messageExchange(chat), groupchat: messageExchange(groupchat) },
  };
}

const messageExchange = ({
  sent_topic: sentTopic,
  recv_topic: recvTopic,
  ...exchange
}: RabbitTapOptions['chat_msg_exchange']): MessageExchange => ({ ...exchange, sentTopic, recvTopic });
