/** Rows by the types of their columns, which the query decides: node:sqlite knows the types of single values only. */

export const rowsOf = <Row extends object>(rows: readonly object[]): Row[] => rows as readonly Row[] as Row[];

export const rowOf = <Row extends object>(row: object | undefined): Row | undefined => row as Row | undefined;
