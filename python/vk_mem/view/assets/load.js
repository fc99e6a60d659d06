// The page of a dump begins here.
readData().then((data) => start(data)).catch(showTrouble);
