/** Rows with the types of their columns, as the query defines them: node:sqlite only types single values. */

export const rowsOf = <Row extends object>(rows: readonly object[]): Row[] => rows as readonly Row[] as Row[];

export const rowOf = <Row extends object>(row: object | undefined): Row | undefined => row as Row | undefined;
