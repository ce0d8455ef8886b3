// Runs a declarative Jenkinsfile as Jenkins would, `sh` for real. It knows only what is used here, and refuses the rest: what
// passes is known to be understood, and what is not known to be right is an error.
//
//   java -cp groovy.jar:runner groovy.ui.GroovyMain runner/run.groovy --scm REPOSITORY --branch NAME --workspace FOLDER
//        --number N --credentials FILE --result FILE [--param NAME=VALUE ...] < environment of the agent
//
// The agent's environment is this process' own. The result file has a line for each stage, `NAME<TAB>STATE`, and at last
// `Finished<TAB>RESULT`. Exit code: 0 for SUCCESS, 1 for another result, 2 if this is no Jenkinsfile that is understood.

import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.MultipleCompilationErrorsException

Map<String, String> options = [:]
Map<String, String> parameters = [:]
for (int i = 0; i < args.length; i += 2) {
    String name = args[i] - '--'
    if (name == 'param') {
        List<String> pair = args[i + 1].split('=', 2)
        parameters[pair[0]] = pair[1]
    } else {
        options[name] = args[i + 1]
    }
}

Log console = new Log()
Agent agent = new Agent(console, new File(options.workspace))
Credentials credentials = new Credentials(new File(options.credentials), console)
Build build = new Build(agent, credentials, parameters, options.number)
String result
int code
try {
    build.checkOut(options.scm, options.branch)
    CompilerConfiguration configuration = new CompilerConfiguration(scriptBaseClass: Declarative.name)
    Rules rules = new Rules()
    configuration.addCompilationCustomizers(rules)
    Binding binding = new Binding(build: build)
    File file = new File(options.workspace, 'Jenkinsfile')
    Script script = new GroovyShell(getClass().classLoader, binding, configuration).parse(file)
    if (rules.complaints) {
        throw new NotUnderstood(rules.complaints.join('; '))
    }
    script.run()
    result = build.result
    code = result == 'SUCCESS' ? 0 : 1
} catch (NotUnderstood | MultipleCompilationErrorsException e) {
    console.line("ERROR: ${e.message}")
    result = 'FAILURE'
    code = 2
}
console.line("Finished: $result")
List<String> lines = build.stages.collect { name, state -> "$name\t$state" as String }
new File(options.result).text = (lines + "Finished\t$result").join('\n') + '\n'
System.exit(code)
