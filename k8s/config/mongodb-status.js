// Says how each member of the replica set is, also while there is no primary. docs/runbooks/contacts.md.

const { readFileSync } = require("fs");

const password = encodeURIComponent(readFileSync(`${process.env.PASSWORDS}/admin`, "utf8").trim());
const options = "replicaSet=rs0&readPreference=nearest&serverSelectionTimeoutMS=10000";
const status = new Mongo(`mongodb://admin:${password}@${process.env.MEMBERS}/?${options}`)
  .getDB("admin")
  .runCommand({ replSetGetStatus: 1 });

for (const { name, stateStr, health, lastHeartbeatMessage } of status.members) {
  print(`${name}: ${stateStr}${health === 1 ? "" : `, ${lastHeartbeatMessage}`}`);
}
