// Writes all contacts to stdout, one a line, in MongoDB's canonical Extended JSON: types and the order of fields stay. Ends with a
// line that says how many there were, so that half a backup does not look like one. docs/backup.md.

const { readFileSync } = require("fs");

const password = encodeURIComponent(readFileSync(`${process.env.PASSWORDS}/admin`, "utf8").trim());
const contacts = new Mongo(`mongodb://admin:${password}@${process.env.MEMBERS}/?replicaSet=rs0`)
  .getDB(process.env.DATABASE)
  .getCollection("contacts");

let count = 0;
// What a majority has is what a contact's message is removed from the bus for.
for (const contact of contacts.find().readConcern("majority").sort({ _id: 1 })) {
  process.stdout.write(`${EJSON.stringify(contact, { relaxed: false })}\n`);
  count++;
}
process.stdout.write(`${JSON.stringify({ contacts: count })}\n`);
