import net.imagej.patcher.LegacyInjector;
import org.python.jsr223.PyScriptEngineFactory;
import org.scijava.Context;
import org.scijava.console.ConsoleService;
import org.scijava.script.AdaptedScriptLanguage;
import org.scijava.script.ScriptService;

import java.util.Arrays;
import java.util.Set;

/** A replacement for Fiji's launcher. Its arguments are --ij2 --headless --console --run SCRIPT PARAMETERS. */
public class Launcher {
    private static final Set<String> LAUNCHER_OPTIONS = Set.of("--ij2", "--headless", "--console");

    public static void main(String[] arguments) {
        LegacyInjector.preinit(); // must run before any ImageJ class is loaded
        Session.run(Arrays.stream(arguments).filter(word -> !LAUNCHER_OPTIONS.contains(word)).toArray(String[]::new));
    }
}

/** A separate class, because it loads ImageJ classes. */
class Session {
    static void run(String[] arguments) {
        Context context = new Context();
        context.service(ScriptService.class).getIndex().add(new AdaptedScriptLanguage(new PyScriptEngineFactory()), false);
        context.service(ConsoleService.class).processArgs(arguments);
        context.dispose();
        System.exit(0); // exit with 0 as Fiji does, even if the script failed
    }
}
