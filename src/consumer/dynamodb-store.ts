/**
 * Claims and states in a DynamoDB table, for any number of consumers. The table has the string `pk` as its partition
 * key, no sort key, and time to live on `expires`. The consumer's role needs `dynamodb:GetItem`, `PutItem` and
 * `DeleteItem` on it.
 *
 * DynamoDB deletes expired items late (within days), so each condition compares `expires` itself.
 */
import type { ClaimStore } from './dedupe.ts';
import type { StateStore } from './presence.ts';

type Value = { S: string } | { N: string };
type Item = Record<string, Value>;

interface Condition {
  TableName: string;
  ConditionExpression?: string;
  ExpressionAttributeNames?: Record<string, string>;
  ExpressionAttributeValues?: Item;
}

/** The methods needed of a DynamoDB client, such as `new DynamoDB()` of `@aws-sdk/client-dynamodb`. */
export interface DynamoClient {
  getItem(input: { TableName: string; Key: Item; ConsistentRead: boolean }): Promise<{
    Item?: Record<string, { S?: string | undefined; N?: string | undefined }> | undefined;
  }>;
  putItem(input: Condition & { Item: Item }): Promise<unknown>;
  deleteItem(input: Condition & { Key: Item }): Promise<unknown>;
}

export interface DynamoStoreOptions {
  readonly table: string;
  readonly now?: () => number;
}

/** A store for `dedupe` and `presenceState` in one table. */
export function dynamoStore(
  client: DynamoClient,
  { table, now = Date.now }: DynamoStoreOptions,
): ClaimStore & StateStore {
  const TableName = table;
  const seconds = (ms: number): Value => ({ N: String(Math.ceil((now() + ms) / 1_000)) });
  const get = async (pk: string) =>
    (await client.getItem({ TableName, Key: { pk: { S: pk } }, ConsistentRead: true })).Item;

  /** Writes if the condition holds; resolves to whether it wrote. */
  const putIf = async (Item: Item, condition: string, values?: Item): Promise<boolean> => {
    const ExpressionAttributeNames = { '#version': 'version' };
    return holds(
      client.putItem({
        TableName,
        Item,
        ConditionExpression: condition,
        ...(condition.includes('#version') && { ExpressionAttributeNames }),
        ...(values && { ExpressionAttributeValues: values }),
      }),
    );
  };

  return {
    async claim(id, owner, leaseMs) {
      const pk = `event#${id}`;
      // In milliseconds, because leases are short; `expires` is for the table's time to live and in seconds.
      const heldUntil = { N: String(now() + leaseMs) };
      const item = { pk: { S: pk }, owner: { S: owner }, heldUntil, expires: seconds(leaseMs) };
      const free = 'attribute_not_exists(pk) OR heldUntil <= :now';
      if (await putIf(item, free, { ':now': { N: String(now()) } })) return 'claimed';
      const held = await get(pk);
      return held?.state?.S === 'done' ? 'done' : 'busy';
    },
    async done(id, owner, keepMs) {
      const heldUntil = { N: String(now() + keepMs) };
      const item = { pk: { S: `event#${id}` }, owner: { S: owner }, state: { S: 'done' }, heldUntil };
      await client.putItem({ TableName, Item: { ...item, expires: seconds(keepMs) } });
    },
    async release(id, owner) {
      await holds(
        client.deleteItem({
          TableName,
          Key: { pk: { S: `event#${id}` } },
          ConditionExpression: '#owner = :owner AND attribute_not_exists(#state)',
          ExpressionAttributeNames: { '#owner': 'owner', '#state': 'state' },
          ExpressionAttributeValues: { ':owner': { S: owner } },
        }),
      );
    },
    async read(key) {
      const item = await get(key);
      return item && { value: item.value?.S ?? '', version: Number(item.version?.N) };
    },
    write(key, value, version) {
      const item = { pk: { S: key }, value: { S: value }, version: { N: String(version + 1) } };
      if (version === 0) return putIf(item, 'attribute_not_exists(pk)');
      return putIf(item, '#version = :version', { ':version': { N: String(version) } });
    },
  };
}

/** Whether a conditional write succeeded; rethrows any other error. */
async function holds(write: Promise<unknown>): Promise<boolean> {
  try {
    await write;
    return true;
  } catch (error) {
    if (error instanceof Error && error.name === 'ConditionalCheckFailedException') return false;
    throw error;
  }
}
