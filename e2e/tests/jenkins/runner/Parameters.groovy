/** `parameters`: what may be chosen for a build, and what holds otherwise. */
class Parameters {

    private static final Map<String, Class> COMMON = [name: String, description: String]

    private final Build build

    Parameters(Build build) {
        this.build = build
    }

    void string(Map args) {
        NotUnderstood.unlessNamed('string', args, COMMON + [defaultValue: String, trim: Boolean], ['name'])
        build.declare(args.name, args.defaultValue ?: '', String)
    }

    void booleanParam(Map args) {
        NotUnderstood.unlessNamed('booleanParam', args, COMMON + [defaultValue: Boolean], ['name'])
        build.declare(args.name, args.defaultValue ?: false, Boolean)
    }

    void choice(Map args) {
        NotUnderstood.unlessNamed('choice', args, COMMON + [choices: List], ['name', 'choices'])
        build.declare(args.name, args.choices[0], String)
        if (!(build.params[args.name] in args.choices)) {
            throw new Failure("$args.name is none of ${args.choices.join(', ')}")
        }
    }

}
