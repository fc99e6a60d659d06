// The page of a trace begins here.
readTrace().then(startTrace).catch(showTrouble);
