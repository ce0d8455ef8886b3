/** What stands at the top of a Jenkinsfile. */
abstract class Declarative extends Script {

    void pipeline(Closure content) {
        new Pipeline(binding.getVariable('build')).run(content)
    }

}
